package order

// MaxOpen is how many numbers of one producer and repository may be open at
// once: the server remembers as many, so that every resend finds its receipt.
const MaxOpen = 1024

// minLimit keeps a lane that was refused for load from creeping.
const minLimit = 16

type mode uint8

const (
	flowing mode = iota
	resolving
	waiting
	probing
	stopped
)

type state uint8

const (
	queued state = iota // to be sent, or to be sent again
	open                // sent, not answered
	ended               // accepted, refused or withdrawn: only its place is left
)

type entry[T any] struct {
	payload    T
	seq        uint64 // 0: never sent in this epoch
	state      state
	maybe      bool // an earlier try may have been accepted
	resendable bool
	unwanted   bool // nobody waits for it: it ends as soon as it is known not to be accepted
}

// Lane is what one producer has to send to one repository, in order. The zero
// value is not ready: see NewLane. It is not safe for concurrent use.
type Lane[T any] struct {
	positioned bool
	mode       mode
	hole       bool // a number will never be accepted: the next epoch is needed
	fenced     bool
	refused    bool // something in this round was refused for load, or is unknown
	lost       bool // this round ended with the connection

	epoch uint64
	next  uint64 // the next number to give

	q      queue[entry[T]]
	cursor uint64 // key of the next entry to look at for sending
	open   int

	limit    int // of open tries: halved by a refusal for load, grown by receipts
	peak     int // the most that were open in this round
	credit   int // receipts since limit last grew
	cut      bool
	failures int // rounds in a row without a receipt
	accepted bool
	delayMs  int64 // the longest that the server asked for in this round
	done     []Ended[T]
}

// Ended is a packet that ended without an answer of its own.
type Ended[T any] struct {
	Payload T
	// Maybe: it may have been accepted.
	Maybe bool
}

// NewLane returns an empty lane that numbers from 1 under epoch. Without
// positions it numbers nothing, and order is best effort.
func NewLane[T any](positioned bool, epoch uint64) *Lane[T] {
	return &Lane[T]{positioned: positioned, epoch: epoch, next: 1, limit: MaxOpen}
}

// Epoch returns the epoch that numbers are given under.
func (l *Lane[T]) Epoch() uint64 { return l.epoch }

// Open returns the number of tries without an answer.
func (l *Lane[T]) Open() int { return l.open }

// Stopped says that Stop was called.
func (l *Lane[T]) Stopped() bool { return l.mode == stopped }

// Idle says that nothing is queued or open, and that the lane may be forgotten
// if its epoch is never used again.
func (l *Lane[T]) Idle() bool { return l.q.len() == 0 && l.mode == flowing }

// Push adds a packet behind the others and returns its key, which is its name
// until it ended. resendable says whether it may be sent again after a try whose
// outcome is unknown; with positions it always may.
func (l *Lane[T]) Push(payload T, resendable bool) (key uint64) {
	return l.q.push(entry[T]{payload: payload, resendable: resendable || l.positioned})
}

// Peek returns the packet that Take would take.
func (l *Lane[T]) Peek() (payload T, ok bool) {
	e := l.peek()
	if e == nil {
		return payload, false
	}
	return e.payload, true
}

func (l *Lane[T]) peek() *entry[T] {
	if l.mode != flowing && l.mode != probing || l.open >= l.limit {
		return nil
	}
	l.cursor = max(l.cursor, l.q.head)
	for ; l.cursor < l.q.tail; l.cursor++ {
		e := l.q.at(l.cursor)
		if e.state != queued || l.mode == probing && !e.maybe {
			continue
		}
		if e.seq == 0 && l.span() >= MaxOpen {
			return nil
		}
		return e
	}
	return nil
}

// span is how many numbers there are from the oldest that is not accepted.
func (l *Lane[T]) span() uint64 {
	if l.q.len() == 0 {
		return 0
	}
	if seq := l.q.at(l.q.head).seq; seq != 0 {
		return l.next - seq
	}
	return 0
}

// Try is one sending of a packet.
type Try[T any] struct {
	Payload         T
	Key             uint64
	Epoch, Sequence uint64 // 0 without positions
}

// Take takes the next packet to send, after Peek said that there is one.
func (l *Lane[T]) Take() Try[T] {
	e := l.peek()
	if e.seq == 0 && l.positioned {
		e.seq = l.next
		l.next++
	}
	e.state = open
	l.open++
	l.peak = max(l.peak, l.open)
	t := Try[T]{Payload: e.payload, Key: l.cursor}
	if l.positioned {
		t.Epoch, t.Sequence = l.epoch, e.seq
	}
	l.cursor++
	return t
}

// Withdraw takes a packet back that nobody waits for any more, and says whether
// it could: not while a try of it is open or may have been accepted. Then it ends
// with the first answer that says that no try was: without an answer of its own,
// through Ended. To send it again would be for nobody, and with a server that
// refuses it each time it would never end.
func (l *Lane[T]) Withdraw(key uint64) bool {
	e := l.q.find(key)
	if e == nil || e.state == ended {
		return false
	}
	if e.state == open || e.maybe {
		e.unwanted = true
		return false
	}
	l.end(e)
	l.pop()
	return true
}

// end ends an entry that was not accepted.
func (l *Lane[T]) end(e *entry[T]) {
	if e.seq != 0 {
		l.hole = true
		l.resolve()
	}
	l.finish(e)
}

func (l *Lane[T]) finish(e *entry[T]) {
	var none T
	e.state, e.payload = ended, none
}

func (l *Lane[T]) resolve() {
	if l.mode == flowing || l.mode == probing {
		l.mode = resolving
	}
}

// pop gives the places of ended entries at the head back.
func (l *Lane[T]) pop() {
	for l.q.len() > 0 && l.q.at(l.q.head).state == ended {
		l.q.pop()
	}
}
