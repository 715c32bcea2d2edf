package cluster

import (
	"errors"
	"io"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// StateMachine is what a group's entries are applied to. All methods are
// called from the engine's one apply loop, except where they say otherwise;
// while one runs, no entry of any group is applied.
type StateMachine interface {
	// Applied returns the last index whose effects are in the state, durable
	// or not, and 0 for a state to which nothing was ever applied; and the bytes
	// that ApplyConf last stored, nothing if it never did. It is called by
	// AddGroup and JoinGroup, and after a snapshot was installed.
	Applied() (index uint64, conf []byte, err error)
	// AppliedIn is the same of r, a snapshot of the state or its durable part. It
	// is called from any goroutine, and may use nothing but r.
	AppliedIn(r storage.Reader) (index uint64, conf []byte, err error)

	// Apply applies one committed entry and stores its effects together with
	// the applied index, in one batch. Entries come in order and without gaps.
	// An entry without data opens a term. What Apply returns goes to the
	// proposer, or is dropped where nobody waits for it, as on followers: see
	// Unwanted. An error, or a panic, stops the replica.
	// e.Data is shared and must not be changed; it may be kept.
	Apply(e storage.Entry) (result any, err error)

	// ApplyConf applies an entry that changes the group's replicas: it stores
	// conf, which means nothing to the state machine, and the applied index, in
	// one batch.
	ApplyConf(e storage.Entry, conf []byte) error

	// KeyRange bounds all keys of the group in the state, [lower, upper): that is
	// what a snapshot holds. It never changes, and may be called from anywhere.
	KeyRange() (lower, upper []byte)
	// Installed says that another replica's state took the place of this one's:
	// whatever was read from it before is void.
	Installed() error

	// Spill copies what the entries up to upTo hold and something still refers
	// to into the state, about budget bytes of it, and says whether all is
	// done; else it is called again after other work. read returns an entry's
	// data, shared and not to be changed.
	Spill(upTo uint64, budget int, read func(index uint64) ([]byte, error)) (done bool, err error)

	// Settled is the highest index, at most upTo, up to which spilling costs next
	// to nothing, because hardly anything refers to these entries any more. It is
	// called from the apply loop, between entries, and must be quick: it may stop
	// early.
	Settled(upTo uint64) (index uint64, err error)
	// Durable says whether r holds an applied index of at least upTo, and all
	// that was spilled up to there. It is called beside Apply, from another
	// goroutine, and may use nothing but r.
	Durable(r storage.Reader, upTo uint64) (bool, error)

	// LeaderStart says that this replica leads in term and has applied the
	// term's first entry: proposals may begin. It must not block.
	LeaderStart(term uint64)
	// LeaderStop follows every LeaderStart, once the leadership of term is
	// lost. It must not block.
	LeaderStop(term uint64)
}

// Transport carries messages to other replicas. A group with one replica never
// uses it.
type Transport interface {
	// Send takes over messages of one group. It must not block: what cannot be
	// sent is dropped, raft sends it again.
	Send(g storage.GroupID, messages []*pb.Message)
	// Flush lets go what Send kept for company: plain heartbeats and their
	// answers, of which those of many groups come together. It must not block.
	Flush()
	// SendSnapshot has body write a snapshot to the node of the replica that m is
	// addressed to, m itself before it, and calls done exactly once: with nil if
	// the other engine's ReceiveSnapshot returned nil. It must not block; body
	// does, and fails when its writer does.
	SendSnapshot(g storage.GroupID, m *pb.Message, body func(io.Writer) error, done func(error))
}

// noTransport drops everything.
type noTransport struct{}

func (noTransport) Send(storage.GroupID, []*pb.Message) {}

func (noTransport) Flush() {}

func (noTransport) SendSnapshot(_ storage.GroupID, _ *pb.Message, _ func(io.Writer) error, done func(error)) {
	done(errNoTransport)
}

var errNoTransport = errors.New("there is no way to other nodes")

// Unwanted is a result of Apply that wants to know when nobody waits for it.
type Unwanted interface {
	// Drop is called from the apply loop, once, instead of a proposer's answer.
	Drop()
}
