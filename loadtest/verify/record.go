package verify

// record64 holds a packet's number in its low 48 bits and the marks above. One
// word and two ticks a packet are what keeps the verifier small.
type record64 uint64

const (
	numberBits          = 48
	numberMask record64 = 1<<numberBits - 1
)

const (
	markAcked record64 = 1 << (numberBits + iota)
	markRejected
	markUnknown
	// markFresh: a receipt that is not marked duplicate was seen.
	markFresh
	markDelivered
	markSettled
	markDead
	markFound
	// markTwice: already counted as having two numbers.
	markTwice
)

type record struct {
	word record64
	sent Tick
	// settled is when the settlement's acceptance was seen; of use with markSettled only.
	settled Tick
}

func (r *record) is(m record64) bool { return r.word&m != 0 }

// number is the packet's sequence number as first seen, 0 when none was.
func (r *record) number() uint64 { return uint64(r.word & numberMask) }
