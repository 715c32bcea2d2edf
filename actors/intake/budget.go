package intake

import "time"

// Holding is what one repository holds of a Budget. The zero value is ready.
type Holding struct{ bytes int }

// Bytes is what is held.
func (h *Holding) Bytes() int { return h.bytes }

// Budget bounds the bytes of packets that were taken in and are not proposed yet.
type Budget struct {
	limit int
	used  int
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int) Budget { return Budget{limit: limit} }

// Used is the sum of all holdings, in bytes.
func (b *Budget) Used() int { return b.used }

// ReserveAll takes n bytes of several packets for h if they are within its quarter
// of what is free. If they are not, some of them may be: see Reserve.
func (b *Budget) ReserveAll(h *Holding, n int) bool {
	return h.bytes+n <= (b.limit-b.used+h.bytes)/4 && b.Reserve(h, n)
}

// Reserve takes the n bytes of one packet for h if there is room: a repository may
// hold at most a quarter of what is free, so that a hot one never takes the last
// byte from the others; but one packet in any case, if there is room for it at all.
func (b *Budget) Reserve(h *Holding, n int) bool {
	// What h holds itself counts as free here: else its share would shrink as it
	// takes it.
	free := b.limit - b.used + h.bytes
	if h.bytes+n > free/4 && h.bytes > 0 || h.bytes+n > free {
		return false
	}
	h.bytes += n
	b.used += n
	return true
}

// Release gives n of h's bytes back.
func (b *Budget) Release(h *Holding, n int) {
	h.bytes -= n
	b.used -= n
}

// The bounds of a computed delay: below the first a retry finds nothing changed,
// beyond the second a client may as well ask again.
const (
	minRetry = 5 * time.Millisecond
	maxRetry = 5 * time.Second
)

// RetryAfter is when n bytes for h are likely to fit, if rate bytes a second are
// drained. With no rate measured it is a guess in the middle.
func (b *Budget) RetryAfter(h *Holding, n int, rate float64) time.Duration {
	if rate < 1 {
		return 10 * minRetry
	}
	free := b.limit - b.used
	// Either the whole budget must shrink by what is missing, or the holding until
	// its quarter suffices; both drain at the same rate.
	missing := max(n-free, h.bytes+n-(free+h.bytes)/4, 0)
	return drainTime(missing, rate)
}

// RetryDrained is when h is likely to have given back half of what it holds, for
// a refusal that is not the budget's: the queue of one repository was too long. It
// is the least, because the rate is shared with what else waits.
func (b *Budget) RetryDrained(h *Holding, rate float64) time.Duration {
	if rate < 1 {
		return 10 * minRetry
	}
	return drainTime(h.bytes/2, rate)
}

func drainTime(bytes int, rate float64) time.Duration {
	delay := time.Duration(float64(bytes) / rate * float64(time.Second))
	return min(max(delay, minRetry), maxRetry)
}

// Move hands n bytes from one holding to another, whatever their shares.
func (b *Budget) Move(from, to *Holding, n int) {
	from.bytes -= n
	to.bytes += n
}
