package member

import (
	"context"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/meta"
)

const (
	// lookAgain is how often the map is compared with what runs, should no change
	// of it have been noticed; metaCall what one command may take.
	lookAgain = time.Second
	metaCall  = 5 * time.Second
	// startPause is the time between two tries to record the start.
	startPause = 200 * time.Millisecond
)

// Attach lets raft's messages through, to and from where meta's view says: a
// node that comes back may need the others to learn what it knew. The engine has
// the replica of the meta group already; it may not run yet.
func (m *Member) Attach(e *cluster.Engine, store *meta.Store, calls *meta.Calls) {
	m.parts.Store(&Parts{Engine: e, Meta: store, Calls: calls})
	m.gate.Open(e)
}

// Run takes up the work of a member, until Stop. The engine runs.
func (m *Member) Run(w Work) {
	p := *m.parts.Load()
	p.Work = w
	m.parts.Store(&p)
	m.serve(&p)
	m.keepJoining(*m.seeds.Load()) // from now on meta's word counts too
	p.Meta.Watch(func(*meta.View) {
		m.ring()
		m.Changed(meta.MetaGroup)
	})
	for _, loop := range []func(){m.announce, m.watchSeeds, m.keepReplicas, m.follow, m.move, m.draw} {
		m.tasks.Go(loop)
	}
}

// ring has the map looked at.
func (m *Member) ring() {
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

// sleep waits, and returns false when the member stops.
func (m *Member) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-m.ctx.Done():
		return false
	}
}

// call makes one change of meta within its time.
func (m *Member) call(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(m.ctx, metaCall)
	defer cancel()
	return f(ctx)
}

// announce records this start with meta, and then that this node is active. As
// long as meta has no quorum it tries on: the replicas run without.
func (m *Member) announce() {
	p := m.parts.Load()
	for {
		err := m.call(func(ctx context.Context) error { return p.Calls.StartNode(ctx, m.self()) })
		refused := refusal(err)
		switch {
		case err == nil:
			m.announced.Store(true)
			m.activate()
			return
		case refused != nil:
			m.cfg.Fatal(refused)
			return
		case m.ctx.Err() != nil:
			return
		}
		m.log.Debug("start not recorded yet", "err", err)
		if !m.sleep(startPause) {
			return
		}
	}
}

// activate makes a node that joined one that is given replicas.
func (m *Member) activate() {
	p := m.parts.Load()
	for {
		n, ok := p.Meta.View().Node(m.cfg.Identity.Node)
		if ok && n.State != meta.NodeJoining {
			return
		}
		err := m.call(func(ctx context.Context) error {
			return p.Calls.SetNodeState(ctx, m.cfg.Identity.Node, meta.NodeActive)
		})
		if err == nil || !m.sleep(startPause) {
			return
		}
	}
}
