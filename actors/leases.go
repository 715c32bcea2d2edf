package actors

import (
	"sync"
	"time"

	"github.com/waystation/waystation/actors/lease"
	"github.com/waystation/waystation/actors/repository"
)

// laneKey names a lane of a partition.
type laneKey struct {
	group repository.GroupID
	repo  string
}

// openLease is a lease that this node's leader knows of. batch and what stands
// with it are guarded by mu, under which no other lock is taken.
type openLease struct {
	s       *session
	k       *keeper
	repo    string
	token   repository.Token
	attempt uint32 // of the first packet
	leaseMs uint32
	more    bool // the lane had more than was granted

	deadline lease.Deadline[*openLease] // guarded by k.mu
	expiring bool                       // guarded by k.mu

	next, prev *openLease // of the session; guarded by s.mu, as are linked and by
	linked     bool
	by         *Session // whose ask it came of, as far as it was not handed out

	mu          sync.Mutex
	batch       lease.Batch[ticket]
	redelivered bool
	promisedMs  int64 // wall clock until which the worker may count on it
}

func newLease(s *session, k *keeper, repo string, leaseMs uint32, res *repository.GrantResult) *openLease {
	l := &openLease{
		s: s, k: k, repo: repo, token: res.Token, attempt: res.Attempt, leaseMs: leaseMs, more: res.More,
	}
	l.deadline.Value = l
	l.batch.Reset(res.Items)
	return l
}

func (l *openLease) key() laneKey { return laneKey{l.s.g.id, l.repo} }

func (l *openLease) length() time.Duration { return time.Duration(l.leaseMs) * time.Millisecond }

// release lets go of what was not handed out, and returns how many packets that
// is.
func (l *openLease) release(ws *workset) (freed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	freed = l.batch.Release()
	l.advance(ws)
	return freed
}

// advance answers who cannot take effect any more and adds the next step to ws.
// The caller holds l.mu.
func (l *openLease) advance(ws *workset) {
	ws.answers = l.batch.Stranded(ws.answers[:0])
	ws.answer(l, nil)
	step, ok := l.batch.Next()
	if !ok {
		return
	}
	op := l.k.d.newSettle()
	op.l, op.s, op.k, op.step = l, l.s, l.k, step.ID
	op.cmd = repository.Settle{
		Group: l.s.g.id, Repo: bytesOf(l.repo), Token: l.token,
		Through: step.Through, Kind: step.Kind, Failed: step.Failed, Error: step.Error, Results: step.Results,
		RetryAfterMs: step.AfterMs,
	}
	l.s.refs.Add(1)
	ws.settles = append(ws.settles, op)
}

// keeper looks after one partition while this node leads it: its windows, leases,
// renewals and maintenance. One goroutine runs for each term.
type keeper struct {
	d      *DeliveryService
	p      LanePartition
	at     int // the partition's place in the service
	wakeup chan struct{}

	lanes  []repository.LaneEvent // the goroutine's own, as is wanted
	wanted []*laneWindow
	nudged []*consumers
	grown  []growth // the partition's own goroutine's

	mu       sync.Mutex
	term     uint64 // led by this node; 0: not
	serving  bool   // and its leases are known
	stop     chan struct{}
	ended    chan struct{} // closed when the goroutine of the term before is gone
	leases   map[laneKey]*openLease
	due      lease.Deadlines[*openLease]
	windows  map[repository.GroupID]*laneWindow
	renewals []renewal
	round    []renewal // waits for the read barrier
	answered []renewal // the barrier said that this node still led
	failed   []renewal // it did not

	nextRound   time.Duration
	roundNumber uint64 // of the round that waits, or that comes next
}

func newKeeper(d *DeliveryService, p LanePartition, at int) *keeper {
	return &keeper{
		d: d, p: p, at: at, wakeup: make(chan struct{}, 1),
		leases: map[laneKey]*openLease{}, windows: map[repository.GroupID]*laneWindow{},
	}
}

// poke has the goroutine look what is to be done.
func (k *keeper) poke() {
	select {
	case k.wakeup <- struct{}{}:
	default:
	}
}

func (k *keeper) leads() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.term != 0
}

// lead begins a term.
func (k *keeper) lead(term uint64) {
	k.mu.Lock()
	before := k.ended
	stop, ended := make(chan struct{}), make(chan struct{})
	k.term, k.stop, k.ended = term, stop, ended
	k.mu.Unlock()
	ok := k.d.spawn(func() {
		defer close(ended)
		if before != nil {
			<-before
		}
		k.run(term, stop)
	})
	if !ok {
		close(ended)
	}
}

// yield ends a term.
func (k *keeper) yield(term uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.term != term || term == 0 {
		return
	}
	k.term, k.serving = 0, false
	for _, w := range k.windows {
		k.shut(w)
	}
	close(k.stop)
}

// register makes a lease known that was granted in the given term. It answers
// false if the partition was led anew since, which has found the lease itself.
func (k *keeper) register(l *openLease, term uint64) bool {
	k.mu.Lock()
	if k.term != term || !k.serving {
		k.mu.Unlock()
		return false
	}
	key := l.key()
	if old := k.leases[key]; old != nil {
		k.due.Remove(&old.deadline) // ended: its session has yet to hear of it
	}
	k.leases[key] = l
	earliest := k.due.Set(&l.deadline, k.d.mono()+l.length())
	k.mu.Unlock()
	if earliest {
		k.poke()
	}
	return true
}

// forget removes a lease that ended.
func (k *keeper) forget(l *openLease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.leases[l.key()] == l {
		delete(k.leases, l.key())
	}
	k.due.Remove(&l.deadline)
}

// prolong counts the lease from now on again, here: a settlement that took effect
// shows that the worker lives. What was promised to it stays.
func (k *keeper) prolong(l *openLease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.leases[l.key()] == l && !l.expiring {
		k.due.Set(&l.deadline, k.d.mono()+l.length())
	}
}

// find returns the lane's lease, if this node leads the partition and knows one.
func (k *keeper) find(g repository.GroupID, repo string) (l *openLease, serving bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leases[laneKey{g, repo}], k.serving
}

// expire has the leases taken away whose time is up, and returns when to look
// again, at next at the latest.
func (k *keeper) expire(next time.Duration) time.Duration {
	ws := k.d.workset()
	defer ws.submit()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.serving {
		return next
	}
	now := k.d.mono()
	for {
		d, ok := k.due.Due(now)
		if !ok {
			if at, ok := k.due.Next(); ok {
				next = min(next, at)
			}
			return next
		}
		l := d.Value
		l.expiring = true
		op := k.d.newSettle()
		op.l, op.s, op.k, op.expire = l, l.s, k, true
		op.cmd = repository.Settle{Group: l.s.g.id, Repo: bytesOf(l.repo), Token: l.token, Kind: repository.SettleExpire}
		l.s.refs.Add(1)
		ws.settles = append(ws.settles, op)
	}
}

// rearm gives a lease another while whose expiry was not decided.
func (k *keeper) rearm(l *openLease) {
	k.mu.Lock()
	l.expiring = false
	again := k.serving && k.leases[l.key()] == l
	if again {
		k.due.Set(&l.deadline, k.d.mono()+retrySoon)
	}
	k.mu.Unlock()
	if again {
		k.poke()
	}
}
