package actors

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/actors/intake"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

var (
	// ErrGone says that a payload is neither in the log nor spilled: look its record
	// up again, it may have been settled meanwhile.
	ErrGone = errors.New("payload is gone")
	// ErrDamaged says that a payload's bytes are not those that were accepted. It is
	// never served.
	ErrDamaged = errors.New("payload is damaged")
	// ErrGivenUp says that this replica's copy of a payload is damaged, and that the
	// replica is to be replaced: others have it.
	ErrGivenUp = errors.New("replica is given up")
)

// PartitionListener follows what happens in a partition on its leader. It is
// called from the partition's goroutine, and must never block.
type PartitionListener interface {
	// LeaderStarted says that the partition is led here and takes commands.
	LeaderStarted(p *Partition, term uint64)
	// LeaderStopped follows every LeaderStarted. What was not answered until then is
	// answered with a Refusal of its own.
	LeaderStopped(p *Partition, term uint64)
	// Lanes are the lanes that an entry of this leader made runnable. It is called
	// after the entry's settlements and grants were answered. events is reused.
	Lanes(p *Partition, events []repository.LaneEvent)
}

// Partition is one partition on this node. For the engine it is the state machine:
// Applied, Apply, Spill, Durable, LeaderStart and LeaderStop; for the relay it
// fills entries and hands out what they came to. All methods may be called at once.
type Partition struct {
	id     repository.PartitionID
	group  storage.GroupID
	relay  *Relay
	state  *storage.State
	actors registry

	viewMu     sync.Mutex // guards machine and broken
	machine    *repository.Machine
	broken     error // the records cannot be read: machine stands for nothing
	appliedKey []byte
	spilledKey []byte
	lower      []byte // the keys of the partition are in [lower, upper)
	upper      []byte
	appliedSet pool[applied]

	held    atomic.Pointer[func() *Refusal] // says why packets are refused
	watches watches

	term atomic.Uint64 // the term that intake is open for, or 0; set under mu

	mu      sync.Mutex // guards what follows
	batcher intake.Batcher[packetRef]
	settles queue[pendingSettle]
	grants  queue[pendingGrant]
	orders  queue[pendingOrder]
	changes []leadership
	waiting bool // the loop waits for something to propose
	resting bool // the loop waits for its beat, for much, or for something urgent
	// draining refuses what is new, with refusedStopping; what waits is proposed.
	draining bool

	wake     chan struct{}
	finished chan *entry
	drained  chan struct{} // closed once nothing waits any more, when draining
	quit     chan struct{}
	loop     loopState
}

// leadership is a change of it, in the order in which the engine told.
type leadership struct {
	term uint64
	lead bool
}

func newPartition(r *Relay, id repository.PartitionID, state *storage.State) (*Partition, error) {
	m, err := repository.New(id, stateReader{state}, r.cfg.Machine)
	broken := err
	if damaged(err) {
		// The others go on. The engine quarantines this one when it asks where it is.
		m, err = repository.New(id, stateReader{nothing{}}, r.cfg.Machine)
	}
	if err != nil {
		return nil, fmt.Errorf("open partition: %w", err)
	}
	p := &Partition{
		id: id, group: storage.GroupID(id) + 1, relay: r, state: state,
		machine: m, broken: broken, appliedKey: m.AppliedKey(), spilledKey: m.SpilledKey(),
		wake: make(chan struct{}, 1), finished: make(chan *entry, 1),
		drained: make(chan struct{}), quit: make(chan struct{}),
	}
	p.lower, p.upper = m.KeyRange()
	p.actors.partition = p
	p.loop.init(p)
	return p, nil
}

// ID is the partition's number.
func (p *Partition) ID() repository.PartitionID { return p.id }

// Group is the partition's raft group: its number + 1, because group 0 is meta.
func (p *Partition) Group() storage.GroupID { return p.group }

// View calls f with the partition's machine, which f must not keep. Apply waits
// meanwhile: be short.
func (p *Partition) View(f func(m *repository.Machine) error) error {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	return f(p.machine)
}

// Leading is the term in which this node leads the partition and takes commands.
func (p *Partition) Leading() (term uint64, ok bool) {
	term = p.term.Load()
	return term, term != 0
}

// LeaderStart opens the intake, once what was left of an earlier term is answered.
func (p *Partition) LeaderStart(term uint64) { p.change(leadership{term, true}) }

// LeaderStop closes the intake at once. What waits is refused; what is in flight
// is answered by its entry.
func (p *Partition) LeaderStop(term uint64) { p.change(leadership{term, false}) }

func (p *Partition) change(c leadership) {
	p.mu.Lock()
	if !c.lead {
		p.term.Store(0)
	}
	p.changes = append(p.changes, c)
	p.mu.Unlock()
	if !c.lead {
		p.watches.endAll()
	}
	p.signal()
}

func (p *Partition) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// maxPending bounds the commands that wait for an entry, of each kind. Credits
// bound them before; this is so that a fault there does not fill the memory.
const maxPending = 1 << 16

var refusedCommands = &Refusal{
	Code: CodeResourceExhausted, RetryAfter: retrySoon, reason: reasonBudget,
	Message: "the partition has too many commands waiting; try again",
}

type pendingSettle struct {
	settle *repository.Settle
	done   func(repository.SettleOutcome, error)
}

type pendingGrant struct {
	grant *repository.Grant
	done  func(*repository.GrantResult, error)
}

type pendingOrder struct {
	add  func(*repository.EntryBuilder)
	done func(*repository.Results, error)
}

// Settle puts a settlement into the next entry. s and its slices must not be
// changed until done is called: once, with the outcome or a *Refusal, from the
// partition's goroutine or this call; it must be short and never block.
func (p *Partition) Settle(s *repository.Settle, done func(repository.SettleOutcome, error)) {
	if refusal := enqueue(p, &p.settles, pendingSettle{s, done}); refusal != nil {
		done(repository.SettleOutcome{}, refusal)
	}
}

// Grant puts a grant into the next entry, as Settle does: into the same one as
// the settlements that were given before. The result is valid during done only.
func (p *Partition) Grant(g *repository.Grant, done func(*repository.GrantResult, error)) {
	if refusal := enqueue(p, &p.grants, pendingGrant{g, done}); refusal != nil {
		done(nil, refusal)
	}
}

// Command puts what add adds into the next entry, behind settlements and grants.
// The results are those of the whole entry, valid during done only; add and done
// are called from the partition's goroutine, or done from this call.
func (p *Partition) Command(add func(*repository.EntryBuilder), done func(*repository.Results, error)) {
	if refusal := enqueue(p, &p.orders, pendingOrder{add, done}); refusal != nil {
		done(nil, refusal)
	}
}

func enqueue[T any](p *Partition, q *queue[T], v T) *Refusal {
	p.mu.Lock()
	if refusal := p.closedLocked(); refusal != nil {
		p.mu.Unlock()
		return refusal
	}
	if q.len() >= maxPending {
		p.mu.Unlock()
		return refusedCommands
	}
	q.push(v)
	p.notifyLocked(true)
	return nil
}

// notifyLocked wakes the loop if it waits, or rests and should not, and unlocks.
// With an entry in flight its completion will do.
func (p *Partition) notifyLocked(urgent bool) {
	notify := p.waiting || p.resting && (urgent || p.batcher.Packets() >= manyPackets)
	if notify {
		p.waiting, p.resting = false, false
	}
	p.mu.Unlock()
	if notify {
		p.signal()
	}
}

func (p *Partition) closedLocked() *Refusal {
	switch {
	case p.draining:
		return refusedStopping
	case p.term.Load() == 0:
		return refusedNotLeader
	}
	return nil
}

// Hold has each packet refused with what why returns, unless that is nil: now, and
// as long as this partition is led here, until Hold is called again. Settlements,
// grants and all other commands go on, and resends of what was accepted get their
// receipts. why must be quick and may be called from any goroutine; nil ends it.
func (p *Partition) Hold(why func() *Refusal) {
	if why == nil {
		p.held.Store(nil)
		return
	}
	p.held.Store(&why)
}

func (p *Partition) holding() *Refusal {
	if why := p.held.Load(); why != nil {
		return (*why)()
	}
	return nil
}

// push queues packets of one repository, all or none.
func (p *Partition) push(packets []packetRef) *Refusal {
	if refusal := p.holding(); refusal != nil {
		return refusal
	}
	p.mu.Lock()
	if refusal := p.closedLocked(); refusal != nil {
		p.mu.Unlock()
		return refusal
	}
	for i := range packets {
		q := &packets[i]
		p.batcher.Push(&q.resident.flow, *q, charge(q.in.packet(q.at)))
	}
	p.notifyLocked(false)
	return nil
}

// queued is the number of the resident's packets that wait for an entry.
func (p *Partition) queued(r *resident) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return r.flow.Len()
}

// Barrier calls done once everything that was acknowledged before the call is
// applied here, confirmed by a majority; or with a *Refusal.
func (p *Partition) Barrier(done func(error)) {
	p.relay.proposer.ReadIndex(p.group, func(_ uint64, err error) {
		if err != nil {
			done(p.relay.refusalOf(err))
			return
		}
		done(nil)
	})
}
