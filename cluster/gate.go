package cluster

import (
	"errors"
	"io"
	"sync/atomic"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// Gate lets a transport run before there is an engine: until Open it drops
// messages, as a network may, and refuses snapshots. Its methods may be called
// at the same time.
type Gate struct {
	engine atomic.Pointer[Engine]
}

// Open lets everything through to e from now on.
func (g *Gate) Open(e *Engine) { g.engine.Store(e) }

// Receive is Engine.Receive.
func (g *Gate) Receive(id storage.GroupID, messages []*pb.Message) {
	if e := g.engine.Load(); e != nil {
		e.Receive(id, messages)
	}
}

// Together brackets several calls of Receive: the answers to what they bring may
// go in one frame. It returns what ends the bracket.
func (g *Gate) Together() (end func()) {
	e := g.engine.Load()
	if e == nil {
		return func() {}
	}
	e.hold()
	return func() { e.release() }
}

// Unreachable is Engine.Unreachable.
func (g *Gate) Unreachable(id storage.GroupID, to storage.ReplicaID) {
	if e := g.engine.Load(); e != nil {
		e.Unreachable(id, to)
	}
}

// Gone is Engine.Gone.
func (g *Gate) Gone(lived func(storage.GroupID, storage.ReplicaID) bool) {
	if e := g.engine.Load(); e != nil {
		e.Gone(lived)
	}
}

// ReceiveSnapshot is Engine.ReceiveSnapshot; who sends it is all the same.
func (g *Gate) ReceiveSnapshot(_ identity.NodeID, id storage.GroupID, m *pb.Message, body io.Reader) error {
	e := g.engine.Load()
	if e == nil {
		return errNoEngine
	}
	return e.ReceiveSnapshot(id, m, body)
}

var errNoEngine = errors.New("the node is starting: it takes no snapshots yet")
