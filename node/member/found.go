package member

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/cluster/discovery"
	"github.com/waystation/waystation/cluster/discovery/expect"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
)

const (
	// agreeEvery is how often nodes that found a cluster together look at each
	// other, promiseCall what one message may take.
	agreeEvery  = 200 * time.Millisecond
	promiseCall = 2 * time.Second
)

// founders is this node among those that found a cluster together.
type founders struct {
	mu      sync.Mutex
	machine *expect.Machine
	unheard string // what was said last of certificates

	made chan expect.Proposal // one place: the cluster that this node is to make
	join chan meta.ClusterID  // one place: the cluster to join
	fail chan error           // one place
}

// agree founds a cluster with others, or returns false once there is one that
// this node is to be taken into.
func (m *Member) agree(ctx context.Context) (b Belonging, made bool, err error) {
	record, err := discovery.LoadPromise(m.cfg.Log)
	if err != nil {
		return b, false, err
	}
	n := m.cfg.Settings.BootstrapExpect
	f := &founders{
		machine: expect.New(m.cfg.Identity.Node, n, record),
		made:    make(chan expect.Proposal, 1), join: make(chan meta.ClusterID, 1), fail: make(chan error, 1),
	}
	m.founders.Store(f)
	changes := m.gossip.Subscribe()
	defer changes.Close()
	tick := time.NewTicker(agreeEvery)
	defer tick.Stop()
	said := ""
	for {
		m.others(ctx, m.advance(func(x *expect.Machine) expect.Effects { return x.See(discovery.ViewOf(m.gossip.Members(), n)) }))
		if now := f.status(); now != said {
			said = now
			m.log.Info("founding a cluster with others", "nodes", n, "state", now)
		}
		select {
		case p := <-f.made:
			b := m.founding()
			b.Cluster = p.Cluster
			return b, true, nil
		case <-f.join:
			return b, false, nil
		case err := <-f.fail:
			return b, false, fmt.Errorf("%w: --bootstrap-expect %d: %w", ErrRefused, n, err)
		case <-changes.C:
		case <-tick.C:
			m.others(ctx, m.advance((*expect.Machine).Tick))
		case <-ctx.Done():
			return b, false, fmt.Errorf("--bootstrap-expect %d: %w: %s", n, ctx.Err(), f.status())
		}
	}
}

func (f *founders) status() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.machine.Status()
}

// advance makes one step and carries its effects out in their order: the promise
// is durable before what follows from it is returned, to be sent, or made.
func (m *Member) advance(step func(*expect.Machine) expect.Effects) []expect.Message {
	f := m.founders.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := step(f.machine)
	if e.Record != nil {
		if err := discovery.SavePromise(m.cfg.Log, *e.Record); err != nil {
			put(f.fail, err)
			return nil
		}
	}
	if e.Make != nil {
		put(f.made, *e.Make)
	}
	if !e.Join.IsZero() {
		put(f.join, e.Join)
	}
	if e.Err != nil {
		put(f.fail, e.Err)
	}
	return e.Send
}

// put fills a channel of one place, unless it is full.
func put[T any](c chan T, x T) {
	select {
	case c <- x:
	default:
	}
}

// others sends messages, and takes what is answered. Losing them is no harm.
func (m *Member) others(ctx context.Context, messages []expect.Message) {
	ctx, cancel := context.WithTimeout(ctx, promiseCall)
	defer cancel()
	var wait sync.WaitGroup
	for _, x := range messages {
		wait.Go(func() {
			if err := m.say(ctx, x); err != nil {
				m.unheard(ctx, x.To, err)
			}
		})
	}
	wait.Wait()
}

// unheard tells of certificates that stand between nodes which found a cluster; all
// else passes.
func (m *Member) unheard(ctx context.Context, n identity.NodeID, err error) {
	if addr, ok := m.address(n); ok && ctx.Err() == nil {
		if why := m.pool.Diagnose(ctx, addr); why != nil {
			f := m.founders.Load()
			f.mu.Lock()
			again := f.unheard == why.Error()
			f.unheard = why.Error()
			f.mu.Unlock()
			if !again {
				m.log.Error("a node was not asked for its promise", "node", n, "err", why)
			}
			return
		}
	}
	m.log.Debug("a node was not asked for its promise", "node", n, "err", err)
}

func (m *Member) say(ctx context.Context, x expect.Message) error {
	addr, ok := m.address(x.To)
	if !ok {
		return errNoAddress
	}
	peer, err := m.pool.Peer(addr)
	if err != nil {
		return err
	}
	answer, err := peer.Promise(ctx, &peerv1.PromiseRequest{Message: x.Encode()})
	if err != nil {
		return err
	}
	for _, b := range answer.GetMessages() {
		back, err := expect.ParseMessage(b)
		if err != nil {
			return err
		}
		// What follows is said at the next look.
		_ = m.advance(func(e *expect.Machine) expect.Effects { return e.Step(back) })
	}
	return nil
}

// Promise implements peerv1.PeerServer.
func (s *service) Promise(_ context.Context, q *peerv1.PromiseRequest) (*peerv1.PromiseResponse, error) {
	if s.m.founders.Load() == nil {
		return nil, status.Error(codes.Unavailable, "this node does not found a cluster with others: see --bootstrap-expect")
	}
	x, err := expect.ParseMessage(q.GetMessage())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	out := &peerv1.PromiseResponse{}
	for _, back := range s.m.advance(func(e *expect.Machine) expect.Effects { return e.Step(x) }) {
		if back.To == x.From {
			out.Messages = append(out.Messages, back.Encode())
		}
	}
	return out, nil
}
