package route

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// session is a worker's session over all nodes that lead partitions. It owns the
// worker's credit: what is in the worker's hands, or on the way there, and what is
// lent to its sub-sessions, one on each node, never exceed it together.
type session struct {
	r         *Router
	cfg       actors.SessionConfig
	local     subSession
	forget    func()
	ready     chan struct{} // one place
	done      chan struct{}
	ctx       context.Context // of the sub-sessions' streams
	cancel    context.CancelFunc
	unwatched sync.Once

	mu       sync.Mutex
	err      error // why it ended
	ended    bool
	draining bool
	released bool
	limit    int
	lent     int
	book     book
	queue    []actors.Delivery // from other nodes, counted as held
	subs     map[string]*sub   // of other nodes
	order    []*sub            // all, this node's own first
	turn     int
	open     map[uint64]*settling // by number
	number   uint64
	resend   *time.Timer
}

// open opens a session over all nodes.
func (r *Router) open(ctx context.Context, cfg actors.SessionConfig) (*session, error) {
	limit := int(cfg.Credit)
	if limit == 0 {
		limit = int(cfg.MaxBatch)
	}
	if limit == 0 {
		limit = defaultCredit
	}
	return r.openWith(ctx, cfg, limit)
}

// openWith is open with a credit, which may be 0.
func (r *Router) openWith(ctx context.Context, cfg actors.SessionConfig, limit int) (*session, error) {
	if cfg.Worker == "" {
		cfg.Worker, cfg.Anonymous = randomName(), true
	}
	s := &session{
		r: r, ready: make(chan struct{}, 1), done: make(chan struct{}), limit: limit,
		subs: map[string]*sub{}, open: map[uint64]*settling{},
	}
	s.book.init()
	cfg.Ask, cfg.Credit = true, 0
	s.cfg = cfg
	own := cfg
	own.Notify = s.heard
	s.ctx, s.cancel = context.WithCancel(context.Background())
	local, err := r.openLocal(ctx, own)
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.mu.Lock()
	s.local = local
	s.order = append(s.order, &sub{s: s, up: true, ready: true})
	s.mu.Unlock()
	s.forget = r.watchTable(s.follow)
	s.follow()
	s.heard()
	return s, nil
}

// defaultCredit is a group's batch, for a worker that names neither.
const defaultCredit = 32

func randomName() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return "anonymous-" + hex.EncodeToString(b[:])
}

// follow opens sub-sessions on the nodes that lead, drops those of nodes that are
// gone, and sends settlements again whose leader is another one now. It is called
// by the router, which it must not call.
func (s *session) follow() {
	t := s.r.table.Load()
	leading := map[string]bool{}
	for i := range t.targets {
		if to := &t.targets[i]; to.ok && !to.local {
			leading[to.node] = true
		}
	}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	for id, n := range t.nodes {
		if x := s.subs[id]; x != nil && x.node.PeerAddr != n.PeerAddr {
			s.drop(x)
		}
		if leading[id] && s.subs[id] == nil {
			s.add(n)
		}
	}
	for id, x := range s.subs {
		if _, ok := t.nodes[id]; !ok {
			s.drop(x)
		}
	}
	acts := s.reroute(t)
	s.lend()
	s.mu.Unlock()
	s.do(acts)
}

// add opens a sub-session. The caller holds s.mu.
func (s *session) add(n Node) {
	x := &sub{s: s, node: n, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	x.ctx, x.cancel = context.WithCancel(s.ctx)
	s.subs[n.ID] = x
	s.order = append(s.order, x)
	if !s.r.spawn(x.run) {
		x.cancel()
	}
}

// drop ends a sub-session whose node is gone. The caller holds s.mu.
func (s *session) drop(x *sub) {
	x.cancel()
	delete(s.subs, x.node.ID)
	for i, y := range s.order {
		if y == x {
			s.order = append(s.order[:i:i], s.order[i+1:]...)
			break
		}
	}
	s.lent -= x.lent
	x.lent, x.up, x.dropped = 0, false, true
}

// actions are settlements for this node's own session, once s.mu is free.
type actions struct{ settle []*settling }

func (s *session) do(a actions) {
	if len(a.settle) > 0 {
		s.settleHere(a.settle)
	}
}

// lend asks the sub-sessions that may have packets for as many as there is credit,
// each for its share, in turn. The caller holds s.mu.
func (s *session) lend() {
	if s.draining || s.ended {
		return
	}
	n := 0
	for _, x := range s.order {
		if x.up && x.ready {
			n++
		}
	}
	free := s.limit - s.book.held - s.lent
	if n == 0 || free <= 0 {
		s.decline()
		return
	}
	share := (free + n - 1) / n
	for i := range s.order {
		x := s.order[(s.turn+i)%len(s.order)]
		if !x.up || !x.ready || free <= 0 {
			continue
		}
		k := min(share, free)
		free -= k
		x.lent += k
		s.lent += k
		x.told, x.declined = false, false
		if x.remote() {
			x.out.Ask += uint32(k)
			x.ring()
		} else {
			s.local.Ask(uint32(k))
		}
	}
	s.turn++
	s.decline()
}

// decline answers who said that packets are ready and is not asked. The caller
// holds s.mu.
func (s *session) decline() {
	for _, x := range s.order {
		if !x.up || !x.told {
			continue
		}
		x.told, x.declined = false, true
		if x.remote() {
			x.out.Decline = true
			x.ring()
		} else {
			s.local.Ask(0)
		}
	}
}

// noted takes what a sub-session says: how much it gives back, and whether it has
// packets again. The caller holds s.mu.
func (s *session) noted(x *sub, returned int, ready bool) {
	if returned = min(returned, x.lent); returned > 0 {
		x.lent -= returned
		s.lent -= returned
		x.ready = x.declined // who was declined says nothing more until it is asked
	}
	if ready {
		x.ready, x.told = true, true
	}
}

// arrived counts a delivery, and says whether it is the worker's: it is not if the
// worker has it, or has settled it. The caller holds s.mu.
func (s *session) arrived(x *sub, d *actors.Delivery) bool {
	if !d.Redelivered && x.lent > 0 {
		x.lent--
		s.lent--
	}
	return s.book.take(d)
}

// heard is called when this node's own session has something to say.
func (s *session) heard() {
	s.mu.Lock()
	local := s.local
	s.mu.Unlock()
	if local == nil {
		return // it is being opened
	}
	s.mu.Lock()
	returned, ready := local.Notes() // under the lock: they count in their order
	s.noted(s.order[0], returned, ready)
	s.lend()
	s.mu.Unlock()
	s.signal()
	select {
	case <-local.Done():
		s.end(local.Err())
	default:
	}
}

func (s *session) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// end ends the session with an error for its worker.
func (s *session) end(err error) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended, s.err = true, err
	left := s.unsettled()
	s.mu.Unlock()
	close(s.done)
	s.cancel()
	answerAll(left, refusedRepeat)
	s.r.spawn(s.unwatch) // not at once: the router may be calling
}

func (s *session) unwatch() { s.unwatched.Do(s.forget) }

// Ready implements api.Session.
func (s *session) Ready() <-chan struct{} { return s.ready }

// Done implements api.Session.
func (s *session) Done() <-chan struct{} { return s.done }

// Err implements api.Session.
func (s *session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Take implements api.Session.
func (s *session) Take(limit int, dst []actors.Delivery) []actors.Delivery {
	s.mu.Lock()
	n := min(limit, len(s.queue))
	dst = append(dst, s.queue[:n]...)
	clear(s.queue[:n])
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	} else {
		s.signal()
	}
	s.mu.Unlock()
	if n == limit {
		s.signal()
		return dst
	}
	mine := s.local.Take(limit-n, nil)
	if len(mine) == 0 {
		return dst
	}
	s.mu.Lock()
	for i := range mine {
		if s.arrived(s.order[0], &mine[i]) {
			dst = append(dst, mine[i])
		}
	}
	s.lend()
	s.mu.Unlock()
	return dst
}

// Held implements api.Session.
func (s *session) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.book.held + s.lent
}

// Pending implements api.Session: a partition without a leader, or whose leader was
// not reached yet, may have packets, and who was asked and did not give back is
// still looking.
func (s *session) Pending() bool {
	t := s.r.table.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range t.targets {
		to := &t.targets[i]
		if x := s.subs[to.node]; !to.ok || !to.local && (x == nil || !x.up) {
			return true
		}
	}
	return s.lent > 0 || len(s.queue) > 0
}

// SetCredit implements api.Session.
func (s *session) SetCredit(n uint32) {
	s.mu.Lock()
	s.book.alive(time.Now())
	if n > 0 {
		s.limit = int(n)
	}
	s.lend()
	s.mu.Unlock()
}

// Drain implements api.Session. What came from other nodes before is still taken.
func (s *session) Drain() {
	s.mu.Lock()
	s.draining = true
	for _, x := range s.subs {
		if x.up {
			x.out.Drain = true
			x.ring()
		}
	}
	s.mu.Unlock()
	s.local.Drain()
}

// Release implements api.Session.
func (s *session) Release() {
	s.mu.Lock()
	s.draining, s.released = true, true
	s.book.clear()
	s.queue = nil
	for _, x := range s.subs {
		if x.up {
			x.out.Release = true
			x.ring()
		}
	}
	s.mu.Unlock()
	s.local.Release()
}

// Close implements api.Session. What was said before still reaches the other nodes.
func (s *session) Close() {
	s.unwatch()
	s.mu.Lock()
	was := s.ended
	s.ended = true
	left := s.unsettled()
	for _, x := range s.subs {
		x.closing = true
		x.ring()
	}
	s.mu.Unlock()
	answerAll(left, refusedRepeat)
	s.local.Close()
	if was {
		s.cancel()
	}
}

// partitionOf is the partition of a repository's name.
func (s *session) partitionOf(repo string) repository.PartitionID {
	return s.r.partitionOf([]byte(repo))
}
