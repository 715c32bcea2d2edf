package transport

import (
	"bytes"
	"slices"
	"time"

	"github.com/waystation/waystation/cluster/identity"
)

// stale is how many timeouts old a clock reading may be and still count. Clocks
// drift little in that time, but one of a node that is gone says nothing.
const stale = 10

// PeerStatus is what is known of the way to another node.
type PeerStatus struct {
	Node    identity.NodeID
	Address string // last tried
	// Connected says that this node has a connection to it, Since when that began
	// to be so, or not to be.
	Connected bool
	Since     time.Time
	// Err is why there is no connection; it wraps a Refusal if that is it.
	Err error
	// RTT is the best travel time there and back, Offset by how much the peer's
	// clock is ahead of this node's. Both are good only if Measured.
	Measured bool
	RTT      time.Duration
	Offset   time.Duration
	// Headroom is how many bytes it may still write until its disk reserve
	// begins, negative under it, as it said last; good only if Measured.
	Headroom int64
	// Heard is how long ago something came from it, on any connection; negative
	// for never.
	Heard time.Duration
	// Waiting messages and their bytes, and how many were dropped ever.
	Waiting, WaitingBytes int
	Dropped               uint64
}

// Peers returns the state of all known peers, by node id.
func (t *Transport) Peers() []PeerStatus {
	peers := *t.peers.Load()
	out := make([]PeerStatus, 0, len(peers))
	for _, p := range peers {
		out = append(out, p.status())
	}
	slices.SortFunc(out, func(a, b PeerStatus) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	return out
}

// Clock returns what a node's wall clock shows at this moment, Unix
// nanoseconds, as far as can be told from here: it is measured against this
// process's monotonic clock, and its own wall clock plays no part in it. It is
// false for a node that was not heard of for a while, and for this one.
func (t *Transport) Clock(n identity.NodeID) (wall int64, ok bool) {
	p := (*t.peers.Load())[n]
	if p == nil {
		return 0, false
	}
	wall, _, ok = p.clock.read(t.now(), stale*t.cfg.Timeout)
	return wall, ok
}

// Headroom returns how many bytes a node may still write until its disk reserve
// begins, negative under it, as it said last. It is false for a node that was
// not heard of for a while, and for this one.
func (t *Transport) Headroom(n identity.NodeID) (bytes int64, ok bool) {
	p := (*t.peers.Load())[n]
	if p == nil {
		return 0, false
	}
	at := time.Duration(p.pulsed.Load())
	return p.headroom.Load(), at != 0 && t.now()-at <= stale*t.cfg.Timeout
}

func (p *peer) status() PeerStatus {
	p.mu.Lock()
	s := PeerStatus{
		Node: p.node, Address: p.link.address, Connected: p.link.up, Since: p.link.since, Err: p.err,
		Dropped: p.drops.Load(), Heard: -1, Headroom: p.headroom.Load(),
	}
	p.mu.Unlock()
	s.Waiting, s.WaitingBytes = p.out.waiting()
	now := p.t.now()
	if at := p.heard.Load(); at != 0 {
		s.Heard = max(0, now-time.Duration(at))
	}
	var wall int64
	if wall, s.RTT, s.Measured = p.clock.read(now, stale*p.t.cfg.Timeout); s.Measured {
		s.Offset = time.Duration(wall - p.t.cfg.Wall())
	}
	return s
}

// heard notes that something came from a node.
func (t *Transport) heard(n identity.NodeID) {
	if p := (*t.peers.Load())[n]; p != nil {
		p.heard.Store(int64(t.now()))
	}
}

// connected and queuedBytes are gauges.
func (t *Transport) connected() float64 {
	n := 0.0
	for _, p := range *t.peers.Load() {
		p.mu.Lock()
		if p.link.up {
			n++
		}
		p.mu.Unlock()
	}
	return n
}

func (t *Transport) queuedBytes() float64 {
	n := 0
	for _, p := range *t.peers.Load() {
		_, bytes := p.out.waiting()
		n += bytes
	}
	return float64(n)
}
