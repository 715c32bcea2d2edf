package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/waystation/waystation/loadtest/report"
)

// Config is what a Fleet is made from.
type Config struct {
	// Dir holds the nodes' folders and logs; Cluster is its name.
	Dir, Cluster string
	// Nodes to start with, and the nodes that hold each partition.
	Nodes, Replication int
	// Network is theirs, and closed by Stop.
	Network Network
	// Lossy has each node lose at a kill what it had not synced.
	Lossy bool
	// Seed decides which node a fault hits.
	Seed uint64
	// Removed tells the cluster, of which so many nodes stay, that some go for good.
	// It returns once the cluster has taken leave of them; they still run.
	Removed func(ctx context.Context, going []*Node, stay int) error
}

// Fleet is the run's own cluster. Its methods may be called at the same time.
type Fleet struct {
	cfg  Config
	died chan error

	mu    sync.Mutex
	nodes []*Node
	// busy are the nodes that something is being done to; idle is closed at the next change.
	busy   map[*Node]bool
	idle   chan struct{}
	random *rand.Rand
	// lives counts the nodes that there were in each place: one that was removed
	// never comes back, another one does.
	lives map[int]int
	// former is what nodes took that were removed.
	former  []report.Usage
	watches sync.WaitGroup
	ending  chan struct{}
	stop    sync.Once
}

var errNoCut = errors.New("this network cannot be cut")

// Start starts the nodes, the first one first, and waits until every partition
// lies on as many of them as it should.
func Start(ctx context.Context, cfg Config) (*Fleet, error) {
	f := &Fleet{
		cfg: cfg, died: make(chan error, 1), busy: map[*Node]bool{}, lives: map[int]int{}, idle: make(chan struct{}),
		random: rand.New(rand.NewPCG(cfg.Seed, 21)), ending: make(chan struct{}),
	}
	if err := f.grow(ctx, cfg.Nodes); err != nil {
		f.Stop()
		return nil, err
	}
	return f, nil
}

// grow adds nodes until there are n, and waits until they hold what they should.
func (f *Fleet) grow(ctx context.Context, n int) error {
	begin := f.len()
	if begin == 0 {
		if err := f.add(ctx, 0); err != nil {
			return err
		}
		begin = 1
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	// The order in which nodes are listed is their number's.
	f.mu.Lock()
	f.nodes = append(f.nodes, make([]*Node, max(0, n-begin))...)
	f.mu.Unlock()
	for i := begin; i < n; i++ {
		wg.Go(func() { errs[i] = f.add(ctx, i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		f.mu.Lock()
		f.nodes = withoutNil(f.nodes)
		f.mu.Unlock()
		return err
	}
	return f.durable(ctx)
}

func withoutNil(nodes []*Node) (kept []*Node) {
	for _, n := range nodes {
		if n != nil {
			kept = append(kept, n)
		}
	}
	return kept
}

// add starts node i.
func (f *Fleet) add(ctx context.Context, i int) error {
	at, err := f.cfg.Network.Place(i)
	if err != nil {
		return fmt.Errorf("place node %d: %w", i+1, err)
	}
	spec := Spec{
		Name: f.name(i), Cluster: f.cfg.Cluster, Join: "none", Replication: f.cfg.Replication,
		Lossy: f.cfg.Lossy, Seed: f.cfg.Seed + uint64(i),
	}
	if i > 0 {
		spec.Join = f.first().spec.gossip()
	}
	n, err := StartNode(ctx, f.cfg.Dir, spec, at)
	if err != nil {
		return err
	}
	f.mu.Lock()
	if i < len(f.nodes) {
		f.nodes[i] = n
	} else {
		f.nodes = append(f.nodes, n)
	}
	f.mu.Unlock()
	f.watches.Go(func() { f.watch(n) })
	return nil
}

// name is the next node's in place i.
func (f *Fleet) name(i int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := "node-" + strconv.Itoa(i+1)
	if f.lives[i]++; f.lives[i] > 1 {
		name += "-" + strconv.Itoa(f.lives[i])
	}
	return name
}

// gossip is where other nodes find this one.
func (s *Spec) gossip() string {
	if s.Detour != nil {
		return s.Detour.Gossip
	}
	if s.Advertise == "" {
		return s.Addresses.Gossip
	}
	return s.Advertise + s.Addresses.Gossip[strings.LastIndexByte(s.Addresses.Gossip, ':'):]
}

// watch passes a node's unexpected end on.
func (f *Fleet) watch(n *Node) {
	select {
	case err := <-n.Died():
		select {
		case f.died <- err:
		default:
		}
	case <-f.ending:
	}
}

func (f *Fleet) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.nodes)
}

func (f *Fleet) first() *Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[0]
}

// list are the nodes that there are.
func (f *Fleet) list() []*Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return withoutNil(f.nodes)
}

// Targets are the gRPC addresses of all nodes, with commas.
func (f *Fleet) Targets() string {
	var targets []string
	for _, n := range f.list() {
		targets = append(targets, n.Address())
	}
	return strings.Join(targets, ",")
}

// Died yields the reason when a node ends without having been told to.
func (f *Fleet) Died() <-chan error { return f.died }

// Usage sums what the nodes have taken so far.
func (f *Fleet) Usage() report.Usage {
	f.mu.Lock()
	all := append([]report.Usage(nil), f.former...)
	f.mu.Unlock()
	for _, n := range f.list() {
		all = append(all, n.Usage())
	}
	return sumUsage(all)
}

// sumUsage: what one node does not tell, the sum does not tell.
func sumUsage(all []report.Usage) (sum report.Usage) {
	for _, u := range all {
		if u.RSSBytes < 0 || sum.RSSBytes < 0 {
			sum.RSSBytes = -1
		} else {
			sum.RSSBytes += u.RSSBytes
		}
		if u.CPU < 0 || sum.CPU < 0 {
			sum.CPU = -1
		} else {
			sum.CPU += u.CPU
		}
		if u.DiskBytes < 0 || sum.DiskBytes < 0 {
			sum.DiskBytes = -1
		} else {
			sum.DiskBytes += u.DiskBytes
		}
	}
	return sum
}

// Stop ends the nodes at once, and gives their network back. A second call does nothing.
func (f *Fleet) Stop() {
	f.stop.Do(func() {
		close(f.ending)
		var wg sync.WaitGroup
		for _, n := range f.list() {
			wg.Go(n.Stop)
		}
		wg.Wait()
		f.watches.Wait()
		// What it leaves behind ends with this process.
		_ = f.cfg.Network.Close()
	})
}

// Tails are the ends of the nodes' logs, for errors.
func (f *Fleet) Tails() string {
	var b strings.Builder
	for _, n := range f.list() {
		fmt.Fprintf(&b, "-- %s:\n%s", n.Name(), n.LogTail())
	}
	return b.String()
}
