// Package fakerelay is a relay in memory for the client's tests and examples: it
// numbers, deduplicates, grants and settles as PROTOCOL 2 and 3 say, in one
// process, and misbehaves on request. It keeps nothing on disk and knows no
// partition; it is no measure for a node.
package fakerelay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// Stored is a packet that was accepted.
type Stored struct {
	Repo, ID string
	Sequence uint64
	Producer string
	Raw      []byte // the CodePacket as it was sent
}

// Packet unmarshals what was stored.
func (s *Stored) Packet() *waystationv1.CodePacket {
	p := new(waystationv1.CodePacket)
	if err := proto.Unmarshal(s.Raw, p); err != nil {
		panic(fmt.Sprintf("unmarshal stored packet: %v", err)) // it was parsed before
	}
	return p
}

// Relay is the fake. Set its hooks before the first call.
type Relay struct {
	waystationv1.UnimplementedWaystationServer

	// OnPacket may refuse a packet: a result with a Code is what is answered.
	// "ACCEPT_UNKNOWN" accepts it, and answers UNKNOWN.
	OnPacket func(p *wire.Packet) *wire.ResultView
	// OnFrame may end the stream with an error before a frame is taken, OnAnswer
	// after it was taken and before it is answered.
	OnFrame, OnAnswer func(frame int) error
	// OnDescribe, if set, says what nodes there are.
	OnDescribe func() *waystationv1.DescribeClusterResponse
	// OnOpen may refuse a stream.
	OnOpen func(method string) error
	// OnSettle may refuse a settlement.
	OnSettle func(s *waystationv1.Settlement) *waystationv1.Error
	// OnRenew may refuse a renewal.
	OnRenew func(l *waystationv1.LeaseRef) *waystationv1.Error
	// OnDelivery may change a delivery on its way.
	OnDelivery func(d *waystationv1.Delivery)
	// Lease is a lease's length, 30 s by default; MaxBatch a grant's, 32.
	Lease    time.Duration
	MaxBatch int

	mu       sync.Mutex
	repos    map[string]*repo
	epochs   map[string]uint64
	records  map[recordKey]*record
	sessions map[string]*session // by group/worker
	lanes    map[string]*lane    // by group/repo
	token    uint64
	fail     error         // ends the stream of the frame at hand
	cut      chan struct{} // closed to end all streams
	changed  chan struct{} // closed when there may be something to grant
	listener *bufconn.Listener
	server   *grpc.Server
	serving  sync.WaitGroup
	pool     *codec.Pool
	settled  []*waystationv1.Settlement
	opened   *waystationv1.WorkOpen
	renewals int
	frames   int
}

type repo struct {
	stored []*Stored
	ids    map[string]*Stored
}

// Start starts a fake relay. Stop ends it.
func Start() *Relay {
	r := &Relay{
		Lease: 30 * time.Second, MaxBatch: 32,
		repos: make(map[string]*repo), epochs: make(map[string]uint64), records: make(map[recordKey]*record),
		sessions: make(map[string]*session), lanes: make(map[string]*lane),
		cut: make(chan struct{}), changed: make(chan struct{}), token: 100,
		listener: bufconn.Listen(1 << 20), pool: codec.NewPoisonedPool(),
	}
	r.server = grpc.NewServer(
		grpc.ForceServerCodecV2(codec.NewServer(r.pool, wire.DefaultLimits())),
		grpc.MaxRecvMsgSize(64<<20), grpc.WaitForHandlers(true),
	)
	waystationv1.RegisterWaystationServer(r.server, r)
	r.serving.Go(func() { _ = r.server.Serve(r.listener) })
	return r
}

// Stop ends the relay and waits for its goroutines.
func (r *Relay) Stop() {
	r.server.Stop()
	r.serving.Wait()
	_ = r.listener.Close()
}

// Dial connects to the relay, whatever the target.
func (r *Relay) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return r.listener.DialContext(ctx)
}

// Opened is what the last worker said of itself.
func (r *Relay) Opened() *waystationv1.WorkOpen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened
}

// Cut ends all streams, as a lost connection does.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.cut)
	r.cut = make(chan struct{})
}

// Fail has the frame at hand end its stream with err, without an answer and
// without a trace of the packets that follow; for OnPacket.
func (r *Relay) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *Relay) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.fail
	r.fail = nil
	return err
}

func (r *Relay) cutting() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cut
}

var errCut = status.Error(codes.Unavailable, "cut")

// Forget drops the producer records, as seven idle days do.
func (r *Relay) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.records)
}

// Packets returns what a repository has accepted, in order.
func (r *Relay) Packets(name string) []*Stored {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rp := r.repos[name]; rp != nil {
		return slices.Clone(rp.stored)
	}
	return nil
}

// Settled returns the settlements that were accepted, in order.
func (r *Relay) Settled() []*waystationv1.Settlement {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.settled)
}

// Counts returns how many frames were received and leases renewed.
func (r *Relay) Counts() (frames, renewals int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.frames, r.renewals
}

// OpenProducer gives a name its next epoch.
func (r *Relay) OpenProducer(_ context.Context, req *waystationv1.OpenProducerRequest) (*waystationv1.OpenProducerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epochs[req.GetProducer()]++
	return &waystationv1.OpenProducerResponse{Producer: req.GetProducer(), Epoch: r.epochs[req.GetProducer()]}, nil
}

// DescribeCluster implements the call, where OnDescribe does.
func (r *Relay) DescribeCluster(context.Context, *waystationv1.DescribeClusterRequest) (*waystationv1.DescribeClusterResponse, error) {
	if r.OnDescribe == nil {
		return nil, status.Error(codes.Unimplemented, "on request")
	}
	return r.OnDescribe(), nil
}

// Add stores a packet past all checks.
func (r *Relay) Add(p *waystationv1.CodePacket) uint64 {
	raw, err := proto.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("marshal packet: %v", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store(p.GetRepoId(), p.GetPacketId(), p.GetPosition().GetProducer(), raw).Sequence
}

func (r *Relay) store(name, id, producer string, raw []byte) *Stored {
	rp := r.repos[name]
	if rp == nil {
		rp = &repo{ids: make(map[string]*Stored)}
		r.repos[name] = rp
	}
	s := &Stored{Repo: name, ID: id, Sequence: uint64(len(rp.stored) + 1), Producer: producer, Raw: raw}
	rp.stored = append(rp.stored, s)
	if id != "" {
		rp.ids[id] = s
	}
	r.signal()
	return s
}

// signal wakes all sessions; under mu.
func (r *Relay) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

var errNoRepo = errors.New("no such repository")

// LookupPacket looks a packet up by its number or id.
func (r *Relay) LookupPacket(_ context.Context, req *waystationv1.LookupPacketRequest) (*waystationv1.LookupPacketResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rp := r.repos[req.GetRepoId()]
	if rp == nil {
		return nil, status.Error(codes.NotFound, errNoRepo.Error())
	}
	s := rp.ids[req.GetPacketId()]
	if n := req.GetSequence(); n > 0 && n <= uint64(len(rp.stored)) {
		s = rp.stored[n-1]
	}
	if s == nil {
		return nil, status.Error(codes.NotFound, "no such packet")
	}
	return &waystationv1.LookupPacketResponse{
		Packet: &waystationv1.StoredPacket{Packet: s.Packet(), Sequence: s.Sequence}, Sequence: s.Sequence,
		Groups: []*waystationv1.PacketState{{Group: "ci", State: "waiting"}},
	}, nil
}
