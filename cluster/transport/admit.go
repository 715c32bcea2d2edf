package transport

import (
	"fmt"
	"sync"

	"github.com/waystation/waystation/cluster/identity"
)

// hello is how this node introduces itself.
func (t *Transport) hello(lane Lane, dialled identity.NodeID) Hello {
	return Hello{
		Version: Version, Oldest: OldestVersion, Cluster: *t.cluster.Load(), Node: t.cfg.Self,
		Boot: t.cfg.Boot, Life: t.cfg.Life, Name: t.cfg.Name, Feature: t.cfg.Feature, Format: t.cfg.Format,
		Wall: t.cfg.Wall(), Dialled: dialled, Lane: lane,
	}
}

// judge says what is wrong with a peer's hello, if anything. What is wrong with
// both sides' builds is found first: nothing else can be trusted then.
func (t *Transport) judge(h Hello) error {
	cluster := *t.cluster.Load()
	switch {
	case h.Version < OldestVersion || h.Oldest > Version:
		return fmt.Errorf("%w: node %s speaks protocols %d to %d, this one %d to %d",
			ErrIncompatible, h.Node, h.Oldest, h.Version, OldestVersion, Version)
	case cluster.IsZero():
		return fmt.Errorf("%w: node %s", ErrNotMember, t.cfg.Self)
	case h.Cluster.IsZero():
		return fmt.Errorf("%w: node %s", ErrNotMember, h.Node)
	case h.Cluster != cluster:
		return fmt.Errorf("%w: node %s is in %s, node %s in %s", ErrAnotherCluster, h.Node, h.Cluster, t.cfg.Self, cluster)
	case h.Node == t.cfg.Self && h.Boot == t.cfg.Boot && h.Life == t.cfg.Life:
		return fmt.Errorf("%w: node %s", ErrOneself, h.Node)
	case h.Node == t.cfg.Self:
		return fmt.Errorf("%w: node %s runs as boot %d life %x here, as boot %d life %x at %v",
			ErrCopied, h.Node, t.cfg.Boot, t.cfg.Life, h.Boot, h.Life, h.Remote)
	}
	if err := t.lives.check(h); err != nil {
		return err
	}
	if t.cfg.Admit == nil {
		return nil
	}
	return t.cfg.Admit(h)
}

// judgeDialler judges the hello of a peer that dialled.
func (t *Transport) judgeDialler(h Hello) error {
	if err := t.judge(h); err != nil {
		return err
	}
	if h.Dialled != t.cfg.Self {
		return fmt.Errorf("%w: this is %s, not %s", ErrWrongNode, t.cfg.Self, h.Dialled)
	}
	if h.Lane != LaneRaft && h.Lane != LaneSnapshot {
		return fmt.Errorf("%w: %s", ErrIncompatible, h.Lane)
	}
	return nil
}

// judgeDialled judges the answer of a peer that was dialled.
func (t *Transport) judgeDialled(h Hello, meant identity.NodeID) error {
	if h.Node != meant && h.Node != t.cfg.Self {
		return fmt.Errorf("%w: %s answers, not %s", ErrWrongNode, h.Node, meant)
	}
	return t.judge(h)
}

// life is one start of a data folder.
type life struct{ boot, life uint64 }

// lives remembers the newest life of each node that was ever admitted, so that
// an older one, or another one with the same boot counter, is known for a copy.
type lives struct {
	limit int
	mu    sync.Mutex
	of    map[identity.NodeID]life
}

// check says whether h may be its node's life.
func (l *lives) check(h Hello) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.of[h.Node]
	switch {
	case !ok && len(l.of) >= l.limit:
		return fmt.Errorf("%w: %d nodes are known, no more are taken", ErrRefused, len(l.of))
	case !ok, h.Boot > known.boot, h.Boot == known.boot && h.Life == known.life:
		return nil
	default:
		return fmt.Errorf("%w: node %s was seen as boot %d life %x, now as boot %d life %x",
			ErrCopied, h.Node, known.boot, known.life, h.Boot, h.Life)
	}
}

// admit records an admitted life. It says whether it is a new one, and false
// for ok if a newer one came first.
func (l *lives) admit(h Hello) (fresh, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, seen := l.of[h.Node]
	now := life{h.Boot, h.Life}
	if seen && known != now && known.boot >= h.Boot {
		return false, false
	}
	l.of[h.Node] = now
	return seen && known != now, true
}

func (l *lives) forget(n identity.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, n)
}
