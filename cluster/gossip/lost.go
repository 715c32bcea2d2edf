package gossip

import (
	"net/netip"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster/identity"
)

const (
	maxLost  = 64
	lostTime = 24 * time.Hour
)

// lost remembers where members were that failed. memberlist forgets the dead
// within half a minute; two halves of a cluster that were apart for longer would
// never look for each other again.
type lost struct {
	mu  sync.Mutex
	all []lostMember // oldest first
}

type lostMember struct {
	node identity.NodeID
	at   netip.AddrPort
	when time.Time
}

func (l *lost) add(m Member) {
	l.found(m.Node)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == maxLost {
		l.all = l.all[1:]
	}
	l.all = append(l.all, lostMember{m.Node, m.Address, time.Now()})
}

func (l *lost) found(n identity.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.all[:0]
	for _, m := range l.all {
		if m.node != n && time.Since(m.when) < lostTime {
			kept = append(kept, m)
		}
	}
	l.all = kept
}

// pick returns the address of one of them, chosen by n.
func (l *lost) pick(n uint64) (netip.AddrPort, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return netip.AddrPort{}, false
	}
	return l.all[n%uint64(len(l.all))].at, true
}
