package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waystation/waystation/client/internal/fakerelay"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// cluster starts a fake cluster of three nodes.
func cluster(t *testing.T) *fakerelay.Cluster {
	c := fakerelay.StartCluster("cluster", 3)
	t.Cleanup(c.Stop)
	return c
}

// dialCluster dials a client that reaches the nodes where they say that they are,
// and those of more under other addresses.
func dialCluster(t *testing.T, targets string, r *fakerelay.Cluster, more map[string]*fakerelay.Node, change func(*config)) *Client {
	t.Helper()
	c, err := Dial(within(t), targets, func(c *config) {
		c.retry = RetryPolicy{Min: time.Millisecond, Max: 20 * time.Millisecond, Jitter: 0.5}
		c.dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			if d := more[addr]; d != nil {
				return d.Dial(ctx, addr)
			}
			for _, d := range r.Nodes {
				if d.Addr == addr {
					return d.Dial(ctx, addr)
				}
			}
			return nil, &net.AddrError{Err: "no such node", Addr: addr}
		}
		if change != nil {
			change(c)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// pinned waits until the client has a stream to each of the nodes.
func pinned(t *testing.T, c *Client, nodes ...string) {
	t.Helper()
	p := c.shards[0]
	await(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, n := range nodes {
			if p.nodes[n] == nil {
				return false
			}
		}
		return true
	})
}

// stored fails unless each repository has what load sent, in order and once.
func stored(t *testing.T, r *fakerelay.Cluster, repos, n int) {
	t.Helper()
	for k := range repos {
		repo := fmt.Sprintf("repo-%d", k)
		if got := contents(r.Relay, repo); !slices.Equal(got, numbers(1, n)) {
			t.Errorf("%s: stored %v, want 1 to %d", repo, got, n)
		}
	}
}

// loaded is load without an error.
func loaded(t *testing.T, c *Client, repos, n int) {
	t.Helper()
	for packet, err := range load(t, c, repos, n) {
		if err != nil {
			t.Errorf("%s: %v", packet, err)
		}
	}
}

// publishEach publishes a packet to each of some repositories, one after the other.
func publishEach(t *testing.T, c *Client, repos, number int) {
	t.Helper()
	for k := range repos {
		repo := fmt.Sprintf("repo-%d", k)
		if _, err := c.Publish(within(t), &Packet{RepoID: repo, Content: fmt.Appendf(nil, "%s/%d", repo, number)}); err != nil {
			t.Fatal(err)
		}
	}
}

const manyRepos = 20 // over all partitions

func TestRepositoriesArePinnedToTheirLeaders(t *testing.T) {
	r := cluster(t)
	c := dialCluster(t, "a:1", r, nil, nil) // the others are heard of
	publishEach(t, c, manyRepos, 1)
	pinned(t, c, "node-0", "node-1", "node-2")
	_, before := r.Counts()
	publishEach(t, c, manyRepos, 2)
	if direct, forwarded := r.Counts(); forwarded != before || direct+forwarded != 2*manyRepos {
		t.Errorf("%d packets came to their leaders, %d not, %d of these before the client knew", direct, forwarded, before)
	}
	// A change that every node knows: nobody has to pass anything on.
	for p := range fakerelay.Partitions {
		r.Lead(p, (p+1)%3)
	}
	r.TellAll()
	p := c.shards[0]
	await(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.atlas.leaders[0] == leader{"node-1", 2} && p.atlas.leaders[5] == leader{"node-0", 2}
	})
	publishEach(t, c, manyRepos, 3)
	if _, forwarded := r.Counts(); forwarded != before {
		t.Errorf("%d packets were passed on after the change", forwarded-before)
	}
	stored(t, r, manyRepos, 3)
}

// TestOrderAndOnceUnderLeaderChanges: leaders change all the time, the nodes learn
// of it one by one, and one of them stands still now and then.
func TestOrderAndOnceUnderLeaderChanges(t *testing.T) {
	r := cluster(t)
	c := dialCluster(t, "b:1,c:1", r, nil, func(c *config) {
		c.window, c.framePackets, c.maxDrain = 1024, 32, 5*time.Millisecond
	})
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		rng := rand.New(rand.NewPCG(3, 4))
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			r.Lead(rng.IntN(fakerelay.Partitions), rng.IntN(4)-1, rng.IntN(3))
			switch i % 8 {
			case 2:
				r.Nodes[rng.IntN(3)].Freeze()
			case 5:
				for p := range fakerelay.Partitions {
					r.Lead(p, rng.IntN(3), rng.IntN(3))
				}
			case 7:
				for _, d := range r.Nodes {
					d.Thaw()
				}
				r.TellAll()
			}
		}
	})
	loaded(t, c, manyRepos, 300)
	close(stop)
	changing.Wait()
	stored(t, r, manyRepos, 300)
}

func TestLaneIsDrainedBeforeItSwitches(t *testing.T) {
	r := cluster(t)
	arrived, resume := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(resume) })
	t.Cleanup(goOn)
	var once sync.Once
	var answered atomic.Bool
	r.Nodes[0].OnFrame = func([]string) {
		once.Do(func() { close(arrived); <-resume })
	}
	at := 0
	for fakerelay.PartitionOf(fmt.Sprint("repo-", at)) != 0 {
		at++
	}
	repo := fmt.Sprint("repo-", at)
	r.Nodes[1].OnFrame = func(repos []string) {
		if slices.Contains(repos, repo) && !answered.Load() {
			t.Error("the new leader got a packet while one was in flight to the former")
		}
	}
	c := dialCluster(t, "b:1,a:1,c:1", r, nil, func(c *config) { c.maxDrain, c.answerSoon = time.Hour, time.Hour })
	other := 0
	for fakerelay.PartitionOf(fmt.Sprint("other-", other)) != 1 {
		other++
	}
	if _, err := c.Publish(within(t), &Packet{RepoID: fmt.Sprint("other-", other)}); err != nil { // so that it knows all
		t.Fatal(err)
	}
	pinned(t, c, "node-0", "node-1")
	send := func(n int) {
		if err := c.PublishAsync(within(t), &Packet{RepoID: repo, Content: fmt.Appendf(nil, "%s/%d", repo, n)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	send(1)
	<-arrived
	r.Lead(0, 1)
	r.TellAll()
	p := c.shards[0]
	await(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		l := p.lanes[repo]
		if l.pipe.addr != "a:1" {
			t.Fatal("it switched with a packet in flight")
		}
		return l.moving
	})
	send(2)
	send(3)
	answered.Store(true)
	goOn()
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := contents(r.Relay, repo); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("stored %v", got)
	}
}

// TestSilentLeaderIsDeserted: a leader that stands still with packets in its hands
// holds nobody up once there is another one, and what it does when it wakes makes
// no second packet.
func TestSilentLeaderIsDeserted(t *testing.T) {
	r := cluster(t)
	c := dialCluster(t, "a:1,b:1,c:1", r, nil, func(c *config) { c.answerSoon = time.Hour })
	publishEach(t, c, manyRepos, 1)
	pinned(t, c, "node-0", "node-1", "node-2")
	r.Nodes[0].Freeze()
	for k := range manyRepos {
		repo := fmt.Sprintf("repo-%d", k)
		if err := c.PublishAsync(within(t), &Packet{RepoID: repo, Content: fmt.Appendf(nil, "%s/2", repo)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for p := range fakerelay.Partitions {
		r.Lead(p, 1+p%2, 1, 2)
	}
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	r.Nodes[0].Thaw() // it still believes that it leads
	publishEach(t, c, manyRepos, 3)
	stored(t, r, manyRepos, 3)
	p := c.shards[0]
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.atlas.leaders {
		if want := (leader{fmt.Sprint("node-", 1+i%2), 2}); l != want {
			t.Errorf("partition %d: the client believes in %v, want %v", i, l, want)
		}
	}
}

func TestClientGoesOnWithoutANode(t *testing.T) {
	r := cluster(t)
	c := dialCluster(t, "a:1", r, nil, nil)
	publishEach(t, c, manyRepos, 1)
	pinned(t, c, "node-0", "node-1", "node-2")
	var failed atomic.Int32
	for k := range manyRepos {
		repo := fmt.Sprintf("repo-%d", k)
		err := c.PublishAsync(within(t), &Packet{RepoID: repo, Content: fmt.Appendf(nil, "%s/2", repo)}, func(_ Receipt, err error) {
			if err != nil {
				failed.Add(1)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	r.Nodes[0].Kill() // the only one that the caller named
	for p := range fakerelay.Partitions {
		r.Lead(p, 1+p%2, 1, 2)
	}
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	publishEach(t, c, manyRepos, 3)
	if n := failed.Load(); n > 0 {
		t.Errorf("%d packets failed", n)
	}
	stored(t, r, manyRepos, 3)
}

func TestUnreachableLeadersAreServedThroughAnother(t *testing.T) {
	r := cluster(t)
	r.Nodes[1].Addr, r.Nodes[2].Addr = "10.0.0.2:1", "0.0.0.0:7400"
	hidden := r.Nodes[1]
	c := dialCluster(t, "a:1", r, nil, func(c *config) {
		dial := c.dialer
		c.dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			if addr == hidden.Addr {
				return nil, errors.New("no route to host")
			}
			return dial(ctx, addr)
		}
	})
	loaded(t, c, manyRepos, 50)
	stored(t, r, manyRepos, 50)
	if direct, forwarded := r.Counts(); forwarded == 0 || direct == 0 {
		t.Errorf("%d packets to their leaders, %d passed on: want some of both", direct, forwarded)
	}
}

// TestLeadersAreFoundBehindANAT: what nodes say of their addresses is of no use,
// and those that the caller gave lead to them all the same.
func TestLeadersAreFoundBehindANAT(t *testing.T) {
	r := cluster(t)
	outside := map[string]*fakerelay.Node{}
	for i, d := range r.Nodes {
		outside[fmt.Sprintf("gateway:%d", i+1)] = d
		d.Addr = fmt.Sprintf("10.0.0.%d:7400", i+1)
	}
	inside := r.Nodes
	c := dialCluster(t, "gateway:2,gateway:3,gateway:1", r, outside, func(c *config) {
		dial := c.dialer
		c.dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			for _, d := range inside {
				if d.Addr == addr {
					return nil, errors.New("no route to host")
				}
			}
			return dial(ctx, addr)
		}
	})
	publishEach(t, c, manyRepos, 1)
	pinned(t, c, "node-0", "node-1", "node-2")
	_, before := r.Counts()
	publishEach(t, c, manyRepos, 2)
	if _, forwarded := r.Counts(); forwarded != before {
		t.Errorf("%d packets were passed on", forwarded-before)
	}
	stored(t, r, manyRepos, 2)
}

// TestStrangersGetNothing: the address that a node gives leads to another cluster's
// node from here, as 127.0.0.1 does through a tunnel.
func TestStrangersGetNothing(t *testing.T) {
	r := cluster(t)
	stranger := fakerelay.StartCluster("another", 1)
	t.Cleanup(stranger.Stop)
	var dialled atomic.Int32
	c := dialCluster(t, "tunnel:1", r, map[string]*fakerelay.Node{"tunnel:1": r.Nodes[0]}, func(c *config) {
		dial := c.dialer
		c.dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			if addr != "tunnel:1" {
				dialled.Add(1)
				return stranger.Nodes[0].Dial(ctx, addr)
			}
			return dial(ctx, addr)
		}
	})
	publishEach(t, c, manyRepos, 1)
	p := c.shards[0]
	await(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		s := p.pipes["b:1"]
		return s != nil && !s.running && time.Until(s.rest) > strangerRest/2
	})
	loaded(t, c, manyRepos, 0)
	publishEach(t, c, manyRepos, 2)
	stored(t, r, manyRepos, 2)
	if direct, forwarded := stranger.Counts(); direct+forwarded > 0 || dialled.Load() == 0 {
		t.Errorf("another cluster got %d packets over %d connections", direct+forwarded, dialled.Load())
	}
}

func TestOlderNodesGetEverything(t *testing.T) {
	r := cluster(t)
	for _, d := range r.Nodes {
		d.Old = true
	}
	c := dialCluster(t, "c:1,a:1", r, nil, nil)
	loaded(t, c, manyRepos, 50)
	r.Nodes[2].Kill()
	for p := range fakerelay.Partitions {
		r.Lead(p, p%2)
	}
	r.TellAll()
	publishEach(t, c, manyRepos, 51)
	stored(t, r, manyRepos, 51)
}

func TestAtlasMergesByTerm(t *testing.T) {
	routes := func(cluster string, leaders ...uint32) *waystationv1.Routes {
		r := &waystationv1.Routes{ClusterId: cluster, NodeId: "x", HashSeed: 1, Nodes: []*waystationv1.RouteNode{
			{Id: "x", Grpc: "x:1"}, {Id: "y", Grpc: "y:1"}, {Id: "z", Grpc: ":1"},
		}}
		for i := 0; i < len(leaders); i += 2 {
			r.Partitions = append(r.Partitions, &waystationv1.RoutePartition{Leader: leaders[i], Term: uint64(leaders[i+1])})
		}
		return r
	}
	var a *atlas
	for i, step := range []struct {
		told *waystationv1.Routes
		want []leader
		same bool
	}{
		{told: routes("c", 0, 0, 2, 5), want: []leader{{}, {"y", 5}}},
		{told: routes("c", 1, 3, 1, 4), want: []leader{{"x", 3}, {"y", 5}}}, // an older term
		{told: routes("c", 0, 9, 0, 9), want: []leader{{"x", 3}, {"y", 5}}, same: true},
		{told: routes("c", 2, 3, 1, 6), want: []leader{{"x", 3}, {"x", 6}}},
		{told: routes("d", 2, 1, 0, 0), want: []leader{{"y", 1}, {}}}, // another cluster
	} {
		next := a.merge(step.told)
		if !slices.Equal(next.leaders, step.want) || (next == a) != step.same {
			t.Errorf("step %d: %v, want %v; the same: %v", i, next.leaders, step.want, next == a)
		}
		if len(next.addrs) != 2 || next.addrs["y"] != "y:1" {
			t.Errorf("step %d: addresses %v", i, next.addrs)
		}
		a = next
	}
	for name, bad := range map[string]*waystationv1.Routes{
		"no cluster": routes("", 1, 1), "no partitions": routes("c"), "a leader beyond the nodes": routes("c", 4, 1),
	} {
		if valid(bad) {
			t.Errorf("%s: taken", name)
		}
	}
}
