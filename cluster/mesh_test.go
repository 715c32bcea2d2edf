package cluster_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// mesh carries messages between the engines of one process, as badly as it is
// told to.
type mesh struct {
	mu      sync.Mutex
	engines map[int]*cluster.Engine
	cut     map[[2]int]bool // from, to
	lossy   bool            // every fifth message is lost, every fifth doubled
	rng     *rand.Rand
	queues  map[[2]int]chan parcel
	quit    chan struct{}
	running sync.WaitGroup
}

type parcel struct {
	g  storage.GroupID
	ms []*pb.Message
}

// nodeOf says on which node a replica lives: the tests give them such ids.
func nodeOf(id storage.ReplicaID) int { return int(id) % 10 }

func newMesh(t testing.TB) *mesh {
	m := &mesh{
		engines: map[int]*cluster.Engine{}, cut: map[[2]int]bool{}, queues: map[[2]int]chan parcel{},
		rng: rand.New(rand.NewPCG(1, 2)), quit: make(chan struct{}),
	}
	t.Cleanup(func() {
		close(m.quit)
		m.running.Wait()
	})
	return m
}

// port is one node's way to the others.
type port struct {
	mesh *mesh
	node int
}

func (p port) Send(g storage.GroupID, ms []*pb.Message) {
	for _, m := range ms {
		p.mesh.send(p.node, nodeOf(storage.ReplicaID(m.GetTo())), g, m)
	}
}

func (p port) Flush() {}

func (m *mesh) send(from, to int, g storage.GroupID, x *pb.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	copies := 1
	if m.lossy {
		copies = []int{0, 1, 1, 1, 2}[m.rng.IntN(5)]
	}
	if m.cut[[2]int{from, to}] {
		copies = 0
	}
	q := m.queues[[2]int{from, to}]
	if q == nil {
		q = make(chan parcel, 4096)
		m.queues[[2]int{from, to}] = q
		m.running.Go(func() { m.deliver(to, q) })
	}
	for range copies {
		select {
		case q <- parcel{g, []*pb.Message{proto.Clone(x).(*pb.Message)}}:
		default:
		}
	}
}

func (m *mesh) deliver(to int, q chan parcel) {
	for {
		select {
		case <-m.quit:
			return
		case p := <-q:
			if e := m.engine(to); e != nil {
				e.Receive(p.g, p.ms)
			}
		}
	}
}

func (m *mesh) engine(node int) *cluster.Engine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.engines[node]
}

func (m *mesh) attach(node int, e *cluster.Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines[node] = e
}

// isolate cuts a node off from all others, or joins it again.
func (m *mesh) isolate(node int, cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range 10 {
		m.cut[[2]int{node, other}], m.cut[[2]int{other, node}] = cut, cut
	}
}

func (m *mesh) loses(lossy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lossy = lossy
}

func (m *mesh) blocked(from, to int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cut[[2]int{from, to}]
}

var errCut = errors.New("the line is cut")

func (p port) SendSnapshot(g storage.GroupID, x *pb.Message, body func(io.Writer) error, done func(error)) {
	m, to := p.mesh, nodeOf(storage.ReplicaID(x.GetTo()))
	e := m.engine(to)
	if e == nil || m.blocked(p.node, to) {
		done(errCut)
		return
	}
	r, w := io.Pipe()
	m.running.Go(func() {
		_ = w.CloseWithError(body(line{w, func() bool { return m.blocked(p.node, to) }}))
	})
	m.running.Go(func() {
		err := e.ReceiveSnapshot(g, proto.Clone(x).(*pb.Message), r)
		_ = r.CloseWithError(errCut)
		done(err)
	})
}

// line is a writer that may be cut.
type line struct {
	io.Writer
	cut func() bool
}

func (l line) Write(b []byte) (int, error) {
	if l.cut() {
		return 0, errCut
	}
	return l.Writer.Write(b)
}

// tick is short here: elections take 50 to 100 ms.
func quickTicks(c *cluster.Config) { c.Tick = 5 * time.Millisecond }
