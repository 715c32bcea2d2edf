package actors

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

var (
	// ErrMailboxFull says that a mailbox is over its limit: try again later.
	ErrMailboxFull = errors.New("mailbox is full")
	// ErrMailboxClosed says that the actor is stopping: the message was not taken.
	ErrMailboxClosed = errors.New("mailbox is closed")
)

// Mailbox is an actor.Mailbox that refuses. The library's bounded ones spin the
// sender or drop in silence, and its middleware cannot refuse. Work enters through
// TryPost and never through the actor system; what is in hand counts against the
// limit too, until it was handled or panicked. All methods may be called at once.
type Mailbox struct {
	mu         sync.Mutex
	system     queue[any]
	control    queue[any] // beside the limit, and before the work
	work       queue[parcel]
	packets    int // queued and in hand
	bytes      int
	maxPackets int
	maxBytes   int
	running    bool
	suspended  bool
	closed     bool

	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
	process    func()
}

type parcel struct {
	message any
	packets int
	bytes   int
}

// NewMailbox returns a mailbox for so many packets and bytes.
func NewMailbox(maxPackets, maxBytes int) *Mailbox {
	m := &Mailbox{maxPackets: maxPackets, maxBytes: maxBytes}
	m.process = m.run // once, so that scheduling does not allocate
	return m
}

// TryPost queues a message of so many packets and bytes, or answers
// ErrMailboxFull or ErrMailboxClosed at once. An empty mailbox takes any size.
func (m *Mailbox) TryPost(message any, packets, bytes int) error {
	m.mu.Lock()
	switch {
	case m.closed:
		m.mu.Unlock()
		return ErrMailboxClosed
	case m.packets > 0 && (m.packets+packets > m.maxPackets || m.bytes+bytes > m.maxBytes):
		m.mu.Unlock()
		return ErrMailboxFull
	}
	m.work.push(parcel{message, packets, bytes})
	m.packets += packets
	m.bytes += bytes
	m.wakeLocked()
	return nil
}

// PostControl queues a message beside the limit, and before the work. It answers
// false if the mailbox is closed.
func (m *Mailbox) PostControl(message any) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	m.control.push(message)
	m.wakeLocked()
	return true
}

// PostLazy is PostControl without waking the actor for it, unless urgent is above
// zero: it is seen before the next message. urgent is read under the mailbox's
// lock, so that what the actor stored in its last turn counts.
func (m *Mailbox) PostLazy(message any, urgent *atomic.Int32) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	m.control.push(message)
	if urgent.Load() > 0 {
		m.wakeLocked()
	} else {
		m.mu.Unlock()
	}
	return true
}

// wakeLocked schedules the actor if it does not run, and unlocks.
func (m *Mailbox) wakeLocked() {
	start := !m.running
	m.running = true
	m.mu.Unlock()
	if start {
		m.dispatcher.Schedule(m.process)
	}
}

// CloseIfIdle closes the mailbox if nothing is queued or in hand; nothing that
// was admitted can be lost then. The actor calls it from a control message.
func (m *Mailbox) CloseIfIdle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.packets > 0 || m.work.len() > 0 || m.control.len() > 0 {
		return false
	}
	m.closed = true
	return true
}

// Close closes the mailbox and returns the work that is still queued: it must be
// answered by the caller. What is in hand is answered by the actor.
func (m *Mailbox) Close() (left []any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.control.clear()
	for m.work.len() > 0 {
		p := m.work.pop()
		m.packets -= p.packets
		m.bytes -= p.bytes
		left = append(left, p.message)
	}
	return left
}

// Held is what is queued and in hand.
func (m *Mailbox) Held() (packets, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.packets, m.bytes
}

// PostUserMessage is for the actor system's own messages, such as a poison pill.
func (m *Mailbox) PostUserMessage(message any) { m.PostControl(message) }

// PostSystemMessage queues a message of the actor's life cycle, before all others.
func (m *Mailbox) PostSystemMessage(message any) {
	m.mu.Lock()
	m.system.push(message)
	m.wakeLocked()
}

// RegisterHandlers is called once, before the first message.
func (m *Mailbox) RegisterHandlers(invoker actor.MessageInvoker, dispatcher actor.Dispatcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.invoker, m.dispatcher = invoker, dispatcher
}

// Start does nothing: posting starts the actor.
func (m *Mailbox) Start() {}

// UserMessageCount is the number of queued messages that are not the system's.
func (m *Mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.work.len() + m.control.len()
}

func (m *Mailbox) run() {
	for m.turn() { //nolint:revive // the turn is the body
	}
}

// turn handles messages until none is left. It answers true if a message
// panicked: the supervisor was told, and has left system messages behind.
func (m *Mailbox) turn() (again bool) {
	var message any
	defer func() {
		if reason := recover(); reason != nil {
			m.invoker.EscalateFailure(reason, message)
			again = true
		}
	}()
	for handled := 0; ; handled++ {
		if handled == m.dispatcher.Throughput() {
			m.dispatcher.Schedule(m.process) // behind the others; it counts as running until then
			return false
		}
		kind, p := m.take()
		message = p.message
		switch kind {
		case takeNothing:
			return false
		case takeSystem:
			m.handleSystem(p.message)
		case takeControl:
			m.invoker.InvokeUserMessage(p.message)
		case takeWork:
			m.handleWork(p)
		}
	}
}

type takeKind uint8

const (
	takeNothing takeKind = iota
	takeSystem
	takeControl
	takeWork
)

// take removes the next message. With none, the actor is marked as not running
// under the same lock, so that who posts next wakes it.
func (m *Mailbox) take() (takeKind, parcel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.system.len() > 0:
		return takeSystem, parcel{message: m.system.pop()}
	case m.suspended:
	case m.control.len() > 0:
		return takeControl, parcel{message: m.control.pop()}
	case m.work.len() > 0:
		return takeWork, m.work.pop()
	}
	m.running = false
	return takeNothing, parcel{}
}

func (m *Mailbox) handleSystem(message any) {
	switch message.(type) {
	case *actor.SuspendMailbox:
		m.setSuspended(true)
	case *actor.ResumeMailbox:
		m.setSuspended(false)
	default:
		m.invoker.InvokeSystemMessage(message)
	}
}

func (m *Mailbox) setSuspended(v bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.suspended = v
}

// handleWork gives the slot back in a defer: a message that panics must not keep it.
func (m *Mailbox) handleWork(p parcel) {
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.packets -= p.packets
		m.bytes -= p.bytes
	}()
	m.invoker.InvokeUserMessage(p.message)
}

// queue is a slice with a moving head. It gives its memory back when it was long.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int { return len(q.items) - q.head }

func (q *queue[T]) push(v T) { q.items = append(q.items, v) }

func (q *queue[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	if q.head == len(q.items) {
		q.clear()
	} else if q.head >= 32 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return v
}

func (q *queue[T]) clear() {
	clear(q.items)
	q.items, q.head = q.items[:0], 0
	if cap(q.items) > 64 {
		q.items = nil
	}
}
