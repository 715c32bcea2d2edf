package gossip

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/cluster/identity"
)

// maxMembers bounds what strangers can make this node remember.
const maxMembers = 4096

// Member is a node as gossip knows it.
type Member struct {
	// Address is where its gossip port is.
	Address netip.AddrPort
	// Self says that it is this node.
	Self bool
	Meta
}

// members is who is there. Writers are memberlist's callbacks, which hold its
// lock: they never wait here for a reader.
type members struct {
	self identity.NodeID
	m    *metrics

	mu   sync.Mutex
	all  map[identity.NodeID]Member
	subs map[*Subscription]struct{}

	snapshot atomic.Pointer[[]Member]
}

func newMembers(self identity.NodeID, m *metrics) *members {
	s := &members{self: self, m: m, all: map[identity.NodeID]Member{}, subs: map[*Subscription]struct{}{}}
	s.snapshot.Store(&[]Member{})
	return s
}

// put notes a member that came or changed.
func (s *members) put(m Member) {
	m.Self = m.Node == s.self
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[m.Node] == m {
		return
	}
	s.all[m.Node] = m
	s.publish()
}

// remove notes a member that failed or left. note gets it as it was, before anybody
// can see that it is gone.
func (s *members) remove(n identity.NodeID, note func(was Member)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.all[n]; ok {
		note(was)
		delete(s.all, n)
		s.publish()
	}
}

// room says whether one more name may be learned.
func (s *members) room(n identity.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.all[n]
	return known || len(s.all) < maxMembers
}

// publish is called with the lock held.
func (s *members) publish() {
	now := slices.SortedFunc(maps.Values(s.all), func(a, b Member) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	s.snapshot.Store(&now)
	s.m.members.Set(float64(len(now)))
	s.m.changes.Inc()
	for sub := range s.subs {
		sub.ring()
	}
}

func (s *members) now() []Member { return *s.snapshot.Load() }

// others counts the members that are not this node.
func (s *members) others() int {
	n := len(s.now())
	if slices.ContainsFunc(s.now(), func(m Member) bool { return m.Self }) {
		n--
	}
	return n
}

// Subscription tells of changes. However many there were since the last look,
// it is one signal: read it, then look at Members.
type Subscription struct {
	// C has a signal when something changed since the last one was read, and one
	// from the start.
	C    <-chan struct{}
	bell chan struct{}
	of   *members
}

func (s *members) subscribe() *Subscription {
	bell := make(chan struct{}, 1)
	sub := &Subscription{C: bell, bell: bell, of: s}
	sub.ring()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	return sub
}

func (s *Subscription) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// Close ends the subscription; C stays open and silent. Twice is fine.
func (s *Subscription) Close() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	delete(s.of.subs, s)
}
