package actors

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"unicode/utf8"
	"unsafe"

	"github.com/waystation/waystation/actors/lease"
)

// SessionConfig opens a session.
type SessionConfig struct {
	Group string
	// Worker is the session's name; who comes back under it gets its open grants
	// again. Empty: a random one, under which nobody can come back.
	Worker string
	// LeaseMs is 1,000 to 43,200,000; 0: the group's.
	LeaseMs uint32
	// MaxBatch packets of one repository in one grant; 0: the group's.
	MaxBatch uint32
	// Credit is how many packets the worker holds at once; 0: one batch.
	Credit uint32
	// Ask opens a session without credit, which gets what Session.Ask asks for: its
	// worker is at another node, or gets packets from several.
	Ask bool
	// Existing says that the group is not to be made: whoever asks has seen it.
	Existing bool
	// Anonymous says that nobody comes back under Worker, as with an empty one.
	Anonymous bool
	// Notify, if set, is called when Take may have something, from any goroutine;
	// it must not block. Ready tells the same.
	Notify func()
}

const (
	minLeaseMs    = 1000
	maxLeaseMs    = 12 * 3600 * 1000
	maxGroupName  = 128
	maxWorkerName = 128
)

// session is what the node knows of one worker of a group: it lives as long as a
// handle is attached, a grant is being decided, or a lease is open under its name.
type session struct {
	g     *consumers
	name  string
	named bool // by the worker, who may come back
	refs  atomic.Int32
	turn  atomic.Uint32 // of the partitions, in which lanes are looked for

	hungry bool // guarded by g.mu

	mu       sync.Mutex
	handle   *Session
	credit   lease.Credit
	leaseMs  uint32
	maxBatch uint32
	draining bool
	inflight int // grants that are not decided yet
	reserved int // credit that they hold
	asking   asking
	leases   *openLease
	queue    []*openLease // with packets to be handed out
	inbox    []deed
	spare    []deed
	poked    bool
	running  bool // a pump runs
}

// deed is something that the apply loop decided, for the session's pump.
type deed interface{ finish(ws *workset) }

// Session is a worker's connection to its session: one stream, or one pull.
// Its methods are safe for concurrent use.
type Session struct {
	s      *session
	notify func()
	ready  chan struct{}
	done   chan struct{}
	err    *Refusal // why it ended; set before done is closed
	pull   bool
	again  int // packets that it gets again
}

// Open attaches a session to a worker's name. A session that is attached under
// that name already ends: its worker is thought to have come back. It blocks
// until the group is active.
func (d *DeliveryService) Open(ctx context.Context, cfg SessionConfig) (*Session, error) {
	h, _, err := d.attach(ctx, cfg, false)
	if err != nil {
		return nil, err
	}
	h.s.poke()
	return h, nil
}

// attach opens a handle; redelivered is how many packets it gets again.
func (d *DeliveryService) attach(ctx context.Context, cfg SessionConfig, pull bool) (h *Session, redelivered int, err error) {
	if err := cfg.check(); err != nil {
		return nil, 0, err
	}
	if cfg.Existing && !d.source.Exists(cfg.Group) {
		return nil, 0, refusedDeleted
	}
	g, err := d.ensure(ctx, cfg.Group)
	if err != nil {
		return nil, 0, asRefusal(err)
	}
	group := g.cfg.Load()
	if cfg.LeaseMs == 0 {
		cfg.LeaseMs = uint32(group.LeaseMs)
	}
	if cfg.MaxBatch == 0 || uint64(cfg.MaxBatch) > group.MaxBatch {
		cfg.MaxBatch = uint32(group.MaxBatch)
	}
	if cfg.Credit == 0 && !pull {
		cfg.Credit = cfg.MaxBatch
	}
	if cfg.Ask {
		cfg.Credit = 0
	}
	h = &Session{notify: cfg.Notify, ready: make(chan struct{}, 1), done: make(chan struct{}), pull: pull}
	s := g.session(cfg.Worker, !cfg.Anonymous)
	if s == nil {
		return nil, 0, refusedStopping
	}
	h.s = s
	redelivered = s.attach(h, &cfg)
	g.watch()
	return h, redelivered, nil
}

func (c *SessionConfig) check() error {
	if c.LeaseMs != 0 && (c.LeaseMs < minLeaseMs || c.LeaseMs > maxLeaseMs) {
		return invalid("lease_ms", "must be 0 or between 1,000 and 43,200,000")
	}
	if len(c.Worker) > maxWorkerName || !utf8.ValidString(c.Worker) {
		return invalid("worker", "must be at most 128 bytes of UTF-8")
	}
	return nil
}

// CheckGroup says what is wrong with a group's name, as a *Refusal; nil if nothing is.
func CheckGroup(name string) error { return checkGroup(name) }

func checkGroup(name string) error {
	if name == "" || len(name) > maxGroupName || !utf8.ValidString(name) {
		return invalid("group", "must be 1 to 128 bytes of UTF-8")
	}
	return nil
}

func invalid(field, message string) *Refusal {
	return &Refusal{Code: CodeInvalidArgument, Field: field, Message: message}
}

// asRefusal is err as a Refusal, or as it is when it is a context's.
func asRefusal(err error) error {
	var r *Refusal
	switch {
	case errors.As(err, &r), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return &Refusal{Code: CodeUnavailable, RetryAfter: retrySoon, Message: err.Error()}
}

// session returns the named session with one more reference, or a new one, whose
// worker may come back if back says so. It is nil once the group is stopped.
func (g *consumers) session(name string, back bool) *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil
	}
	s := g.sessions[name]
	if s == nil {
		s = &session{g: g, name: name, named: name != "" && back}
		if name == "" {
			s.name = randomName()
		}
		s.turn.Store(uint32(s.name[len(s.name)-1])) // not all begin at the same
		g.sessions[s.name] = s
	}
	s.refs.Add(1)
	return s
}

// randomName is a session's name that nobody else can know. The prefix keeps it
// apart from workers' names in what people see.
func randomName() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return "anonymous-" + hex.EncodeToString(b[:])
}

// drop gives one reference up.
func (s *session) drop() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	if s.refs.Load() == 0 && s.g.sessions[s.name] == s {
		delete(s.g.sessions, s.name)
	}
}

// attach makes h the session's handle and hands its open grants out again.
func (s *session) attach(h *Session, cfg *SessionConfig) (redelivered int) {
	s.mu.Lock()
	old := s.handle
	s.handle, s.draining = h, false
	s.leaseMs, s.maxBatch = cfg.LeaseMs, cfg.MaxBatch
	s.credit, s.asking = lease.Credit{}, asking{on: cfg.Ask}
	s.credit.SetLimit(min(int(cfg.Credit), s.g.d.cfg.MaxCredit))
	s.queue = s.queue[:0]
	for l := s.leases; l != nil; l = l.next {
		l.mu.Lock()
		held := l.batch.Rewind()
		l.redelivered = true
		if l.batch.Pending() > 0 {
			s.queue = append(s.queue, l)
		}
		l.mu.Unlock()
		s.credit.Hold(held)
		redelivered += held
	}
	s.credit.Hold(s.reserved)
	h.again = redelivered
	s.mu.Unlock()
	if old != nil {
		old.end(refusedTaken)
		s.drop()
	}
	if redelivered > 0 {
		h.signal()
	}
	return redelivered
}

func (s *session) attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handle != nil
}

// detach ends the handle, if it is h or h is nil, and its reference. What it held
// stays leased.
func (s *session) detach(h *Session, why *Refusal) {
	s.mu.Lock()
	old := s.handle
	if old == nil || h != nil && old != h {
		s.mu.Unlock()
		return
	}
	s.handle = nil
	s.mu.Unlock()
	s.g.leave(s)
	old.end(why)
	s.drop()
}

func (h *Session) end(why *Refusal) {
	h.err = why
	close(h.done)
	if h.notify != nil {
		h.notify()
	}
}

// refusedDeleted is why a session ends whose group was deleted.
var refusedDeleted = &Refusal{Code: CodeNotFound, Field: "group", Message: "the group was deleted"}

// refusedTaken is why a session ends whose worker's name another one uses.
var refusedTaken = &Refusal{
	Code: CodeUnavailable, Field: "worker", RetryAfter: retrySoon,
	Message: "another session was opened under the same worker name",
}

func (h *Session) signal() {
	select {
	case h.ready <- struct{}{}:
	default:
	}
	if h.notify != nil {
		h.notify()
	}
}

// Ready receives when Take may have something. One receiver at a time.
func (h *Session) Ready() <-chan struct{} { return h.ready }

// Done is closed when the session ended without Close: the node stops, or another
// session was opened under the same worker name. Err says which.
func (h *Session) Done() <-chan struct{} { return h.done }

// Err is why Done was closed.
func (h *Session) Err() error {
	select {
	case <-h.done:
		if h.err != nil {
			return h.err
		}
	default:
	}
	return nil
}

// Name is the session's name: the worker's, or a random one.
func (h *Session) Name() string { return h.s.name }

// SetCredit replaces the number of packets that the worker holds at once; 0
// changes nothing.
func (h *Session) SetCredit(n uint32) {
	s := h.s
	s.mu.Lock()
	if s.handle != h {
		s.mu.Unlock()
		return
	}
	s.credit.Alive()
	if n > 0 {
		s.credit.SetLimit(int(min(n, uint32(s.g.d.cfg.MaxCredit))))
	}
	s.mu.Unlock()
	s.poke()
}

// Held is the number of packets that the worker holds, or is about to.
func (h *Session) Held() int {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	return h.s.credit.Held()
}

// Settle ends deliveries of the session's group. done is called with the
// outcomes, each settlement once, in one or more calls: some before Settle
// returns, the others from a goroutine of the service's; it must not block. list
// is not kept, but the results in it are.
func (h *Session) Settle(list []Settlement, done func([]SettlementOutcome)) {
	h.s.g.settle(h.s, list, done)
}

// Renew prolongs leases of the session's group by their full length. done is
// called with the outcomes as in Settle.
func (h *Session) Renew(list []LeaseRef, done func([]RenewOutcome)) {
	h.s.alive()
	h.s.g.renew(list, done)
}

// alive notes that the worker said something.
func (s *session) alive() {
	s.mu.Lock()
	before := s.credit.Held()
	s.credit.Alive()
	freed := before > s.credit.Held()
	s.mu.Unlock()
	if freed {
		s.poke()
	}
}

// Drain ends deliveries: what was never handed out goes back at once, uncharged.
// Settlements and renewals go on until Close.
func (h *Session) Drain() {
	s := h.s
	s.mu.Lock()
	if s.handle != h {
		s.mu.Unlock()
		return
	}
	s.draining = true
	told := s.asking.giveBack()
	s.mu.Unlock()
	if told {
		h.signal()
	}
	s.release(false)
}

// Release gives everything back, uncharged, that the worker holds and has not
// settled. It is for a worker that has drained and says so: of one whose stream
// broke nobody knows what it still does.
func (h *Session) Release() {
	s := h.s
	ws := s.g.d.workset()
	defer ws.submit()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle != h {
		return
	}
	s.draining = true
	for l := s.leases; l != nil; l = l.next {
		l.mu.Lock()
		s.credit.Release(l.batch.GiveUp())
		l.advance(ws)
		l.mu.Unlock()
	}
	clear(s.queue)
	s.queue = s.queue[:0]
}

// Close ends the handle. What the worker holds stays leased until it is settled,
// or until the lease ends: a broken stream frees nothing. What was never handed
// out goes back, unless the worker's name lets it come back for it.
func (h *Session) Close() {
	s := h.s
	s.detach(h, nil)
	if !s.named {
		s.release(false)
	}
}

// End ends the session from the node's side, as if another one had taken its
// name: Done is closed, and Err is why.
func (h *Session) End(why *Refusal) { h.s.detach(h, why) }

// release gives back what was not handed out; with fresh only what was granted
// since the handle was attached.
func (s *session) release(fresh bool) {
	ws := s.g.d.workset()
	defer ws.submit()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.queue {
		if !fresh || !l.redelivered {
			n := l.release(ws)
			s.credit.Release(n)
			s.unspent(l.by, n)
		}
	}
	clear(s.queue)
	s.queue = s.queue[:0]
}

// poke has the pump look for lanes.
func (s *session) poke() {
	s.mu.Lock()
	s.poked = true
	s.run()
	s.mu.Unlock()
}

// post hands a decision to the pump. It is called from apply loops.
func (s *session) post(x deed) {
	s.mu.Lock()
	s.inbox = append(s.inbox, x)
	s.run()
	s.mu.Unlock()
}

// run starts the pump if it does not run: an idle session has no goroutine. The
// caller holds s.mu.
func (s *session) run() {
	if !s.running {
		s.running = s.g.d.spawn(s.pump)
	}
}

// pump carries out what was decided, and looks for lanes after it.
func (s *session) pump() {
	for {
		s.mu.Lock()
		if len(s.inbox) == 0 && !s.poked {
			s.running = false
			h := s.handle
			s.mu.Unlock()
			if h != nil && h.pull {
				h.signal()
			}
			return
		}
		list := s.inbox
		s.inbox, s.spare, s.poked = s.spare[:0], nil, false
		s.mu.Unlock()
		ws := s.g.d.workset()
		for i, x := range list {
			x.finish(ws)
			list[i] = nil
		}
		s.mu.Lock()
		s.spare = list[:0]
		s.mu.Unlock()
		s.fill(ws)
		ws.submit()
		s.tellReturned()
	}
}

// bytesOf is s as bytes that must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
