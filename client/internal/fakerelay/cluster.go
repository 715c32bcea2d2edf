package fakerelay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/messages/codec"
	"github.com/waystation/waystation/messages/partition"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// Partitions and Seed are those of every Cluster.
const (
	Partitions = 6
	Seed       = 7
)

// Cluster is nodes over the one state of a Relay: each takes the packets of the
// partitions that it leads, and passes on those that another leads.
type Cluster struct {
	*Relay
	Nodes []*Node

	mu      sync.Mutex
	id      string
	leaders []lead        // what is so
	changed chan struct{} // closed when somebody knows something else
}

// lead is who leads a partition, -1 for nobody, and since when.
type lead struct {
	node int
	term uint64
}

// Node is one of a Cluster's.
type Node struct {
	waystationv1.UnimplementedWaystationServer

	// Addr is where the node says that it is.
	Addr string
	// Old nodes say nothing of who leads.
	Old bool
	// OnFrame is called before a frame is taken, with the repositories in it.
	OnFrame func(repos []string)

	at       int
	cluster  *Cluster
	listener *bufconn.Listener
	server   *grpc.Server
	serving  sync.WaitGroup

	// Guarded by the cluster's mutex.
	gone              bool
	view              []lead        // what it believes
	still             chan struct{} // closed when it goes on; nil while it does
	direct, forwarded int
}

// StartCluster starts n nodes that advertise the addresses a:1, b:1, …; partition
// i is led by node i modulo n. Stop ends it.
func StartCluster(id string, n int) *Cluster {
	c := &Cluster{Relay: Start(), id: id, changed: make(chan struct{})}
	for i := range Partitions {
		c.leaders = append(c.leaders, lead{i % n, 1})
	}
	for i := range n {
		d := &Node{Addr: string(rune('a'+i)) + ":1", at: i, cluster: c, listener: bufconn.Listen(1 << 20), view: slices.Clone(c.leaders)}
		d.server = grpc.NewServer(
			grpc.ForceServerCodecV2(codec.NewServer(c.pool, wire.DefaultLimits())),
			grpc.MaxRecvMsgSize(64<<20), grpc.WaitForHandlers(true),
		)
		waystationv1.RegisterWaystationServer(d.server, d)
		d.serving.Go(func() { _ = d.server.Serve(d.listener) })
		c.Nodes = append(c.Nodes, d)
	}
	return c
}

// Stop ends all nodes and waits for their goroutines.
func (c *Cluster) Stop() {
	for _, d := range c.Nodes {
		d.Thaw()
		d.Kill()
	}
	c.Relay.Stop()
}

// PartitionOf is where a repository lies.
func PartitionOf(repo string) int { return partition.At(partition.HashString(Seed, repo), Partitions) }

// Lead has a node lead a partition from now on, in the next term; -1: nobody. Those
// of tell know it at once.
func (c *Cluster) Lead(p, node int, tell ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaders[p] = lead{node, c.leaders[p].term + 1}
	for _, i := range tell {
		c.Nodes[i].view[p] = c.leaders[p]
	}
	c.told()
}

// TellAll has every node know who leads.
func (c *Cluster) TellAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.Nodes {
		copy(d.view, c.leaders)
	}
	c.told()
}

// told wakes all streams; under mu.
func (c *Cluster) told() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Counts are the packets that came to the leader itself, and those that another
// node passed on.
func (c *Cluster) Counts() (direct, forwarded int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.Nodes {
		direct += d.direct
		forwarded += d.forwarded
	}
	return direct, forwarded
}

// Dial connects to the node.
func (d *Node) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return d.listener.DialContext(ctx)
}

// Kill ends the node.
func (d *Node) Kill() {
	d.cluster.mu.Lock()
	d.gone = true
	d.cluster.mu.Unlock()
	d.server.Stop()
	d.serving.Wait()
	_ = d.listener.Close()
}

// Freeze has the node take and say nothing until it thaws.
func (d *Node) Freeze() {
	d.cluster.mu.Lock()
	defer d.cluster.mu.Unlock()
	if d.still == nil {
		d.still = make(chan struct{})
	}
}

// Thaw has it go on.
func (d *Node) Thaw() {
	d.cluster.mu.Lock()
	defer d.cluster.mu.Unlock()
	if d.still != nil {
		close(d.still)
		d.still = nil
	}
}

// thawed blocks while the node is frozen.
func (d *Node) thawed(ctx context.Context) error {
	for {
		d.cluster.mu.Lock()
		still := d.still
		d.cluster.mu.Unlock()
		if still == nil {
			return nil
		}
		select {
		case <-still:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// routes is what the node says of who leads.
func (d *Node) routes() (*codec.Raw, <-chan struct{}) {
	c := d.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &waystationv1.Routes{ClusterId: c.id, NodeId: fmt.Sprint("node-", d.at), HashSeed: Seed}
	for _, n := range c.Nodes {
		r.Nodes = append(r.Nodes, &waystationv1.RouteNode{Id: fmt.Sprint("node-", n.at), Grpc: n.Addr})
	}
	for _, l := range d.view {
		r.Partitions = append(r.Partitions, &waystationv1.RoutePartition{Leader: uint32(l.node + 1), Term: l.term})
	}
	b, err := proto.Marshal(&waystationv1.PublishStreamResponse{Routes: r})
	if err != nil {
		panic(err) // it has nothing that could fail
	}
	return &codec.Raw{Bytes: b}, c.changed
}

// PublishStream takes frames, answers each, and says who leads.
func (d *Node) PublishStream(s grpc.BidiStreamingServer[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse]) error {
	frames, failed := received(s.Context(), func() (*codec.PublishFrame, error) {
		f := new(codec.PublishFrame)
		return f, s.RecvMsg(f)
	})
	var index uint64
	var changed <-chan struct{}
	tell := !d.Old
	for {
		if err := d.thawed(s.Context()); err != nil {
			return err
		}
		if tell {
			var routes *codec.Raw
			routes, changed = d.routes()
			if err := s.SendMsg(routes); err != nil {
				return err
			}
		}
		tell = false
		select {
		case <-changed:
			tell = true
		case f := <-frames:
			if err := d.frame(s, f, &index); err != nil {
				return err
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (d *Node) frame(s grpc.ServerStream, f *codec.PublishFrame, index *uint64) error {
	defer f.Free()
	if d.OnFrame != nil {
		var repos []string
		for i := range f.Packets {
			repos = append(repos, string(f.Packets[i].Repo))
		}
		d.OnFrame(repos)
	}
	if err := d.thawed(s.Context()); err != nil {
		return err
	}
	var answer []byte
	for i := range f.Packets {
		result, err := d.take(&f.Packets[i])
		if err != nil {
			return err
		}
		answer = wire.AppendResult(answer, *index, &result)
		*index++
	}
	if err := d.thawed(s.Context()); err != nil {
		return err
	}
	return s.SendMsg(&codec.Raw{Bytes: answer})
}

// take accepts a packet if the node leads its partition, or passes it on, one hop,
// to the one that it believes to.
func (d *Node) take(p *wire.Packet) (wire.ResultView, error) {
	c := d.cluster
	c.mu.Lock()
	at := PartitionOf(string(p.Repo))
	leads, believes := c.leaders[at].node, d.view[at].node
	switch {
	case leads < 0 || leads != believes || leads != d.at && c.Nodes[leads].gone:
		c.mu.Unlock()
		v := refusal("UNAVAILABLE", "", "not the leader")
		v.RetryAfterMs = 5
		return v, nil
	case leads == d.at:
		d.direct++
	default:
		d.forwarded++
	}
	c.mu.Unlock()
	return c.accept(p)
}
