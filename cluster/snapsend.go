package cluster

import (
	"errors"
	"fmt"
	"io"
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// sender sends snapshots to replicas that lack what was cut off the log, one at
// a time. Raft asks for one for each such replica, and not again before it is
// told what came of it: that bounds the queue.
type sender struct {
	engine *Engine
	wanted queue[wanted]
	// photos has room for the one that is being taken.
	photos chan photo
}

// wanted is a snapshot that raft asks for: m is addressed to who is to have it.
type wanted struct {
	group *group
	term  uint64
	m     *pb.Message
}

// photo is a group's state at one moment of the apply loop, at which all that it
// refers to in the log was spilled: nothing else has to be sent.
type photo struct {
	state *storage.StateSnapshot
	at    storage.Position
	conf  replica.Conf
	err   error
}

func newSender(e *Engine) *sender {
	return &sender{engine: e, wanted: newQueue[wanted](), photos: make(chan photo, 1)}
}

func (s *sender) loop() {
	for s.wanted.wait(s.engine.quit) {
		all := s.wanted.take()
		for _, x := range all {
			err := s.send(x)
			if err != nil {
				s.engine.cfg.Logger.Warn("snapshot not sent", "group", x.group.id, "to", x.m.GetTo(), "err", err)
			}
			to := storage.ReplicaID(x.m.GetTo())
			x.group.sends.Add(-1)
			x.group.post(func(in *input) { in.reports = append(in.reports, report{to, err == nil}) })
		}
		s.wanted.recycle(all)
	}
}

// end frees what was taken and not sent. The loops have ended.
func (s *sender) end() {
	select {
	case p := <-s.photos:
		p.close()
	default:
	}
}

func (p photo) close() {
	if p.state != nil {
		_ = p.state.Close() // read-only: nothing to lose
	}
}

func (s *sender) send(x wanted) error {
	if err := s.pointless(x); err != nil {
		return err
	}
	s.engine.applier.order(&spill{group: x.group, photo: s.photos})
	var p photo
	select {
	case <-s.engine.quit:
		return ErrStopped
	case p = <-s.photos:
	}
	defer p.close()
	if p.err == nil {
		p.err = s.compare(x.group, &p)
	}
	if p.err != nil {
		return p.err
	}
	x.m.Snapshot = replica.SnapshotOf(p.at, p.conf)
	return s.stream(x, p.state)
}

// pointless says why a snapshot is not to be sent any more.
func (s *sender) pointless(x wanted) error {
	select {
	case <-s.engine.quit:
		return ErrStopped
	default:
	}
	if x.group.leads.Load() != x.term {
		return ErrNotLeader
	}
	return nil
}

// compare holds what the apply loop thinks it applied against what the state
// says.
func (s *sender) compare(g *group, p *photo) error {
	index, bytes, err := g.sm.AppliedIn(p.state)
	if err != nil {
		return err
	}
	conf, err := replica.ParseConf(bytes)
	if err == nil && (index != p.at.Index || !conf.Equal(p.conf)) {
		err = fmt.Errorf("the state is applied to %d under %v, the apply loop is at %d under %v", index, conf, p.at.Index, p.conf)
		g.fail(err)
	}
	return err
}

// stream waits until the transport is done with the snapshot, which is soon once
// there is no point in it.
func (s *sender) stream(x wanted, state storage.Reader) error {
	lower, upper := x.group.sm.KeyRange()
	var using sync.Mutex // the state is, by the body
	over := false
	body := func(w io.Writer) error {
		using.Lock()
		defer using.Unlock()
		if over {
			return ErrStopped
		}
		_, err := storage.ExportRange(guardedWriter{w, func() error { return s.pointless(x) }}, state, lower, upper)
		if errors.Is(err, storage.ErrCorrupt) {
			x.group.fail(err)
		}
		return err
	}
	done := make(chan error, 1)
	s.engine.transport.SendSnapshot(x.group.id, x.m, body, func(err error) { done <- err })
	err := <-done
	using.Lock()
	over = true
	using.Unlock()
	if err == nil {
		s.engine.metrics.snapshotsSent.Inc()
	}
	return err
}

// guardedWriter writes as long as check finds nothing wrong.
type guardedWriter struct {
	w     io.Writer
	check func() error
}

func (g guardedWriter) Write(b []byte) (int, error) {
	if err := g.check(); err != nil {
		return 0, err
	}
	return g.w.Write(b)
}

// takePhoto ends an order for one, if all is spilled: this and the snapshot are
// one turn of the apply loop, so that nothing was applied in between.
func (a *applier) takePhoto(s *spill, err error) {
	p := photo{at: s.group.at, conf: s.group.conf, err: err}
	switch {
	case err != nil:
	case s.ranged:
		p.state = a.photograph(s.group).State
	default:
		p.state = a.engine.cfg.State.Snapshot()
	}
	s.photo <- p
}

// errInstalling refuses what would write into a state that is being replaced.
var errInstalling = errors.New("a snapshot is being installed")
