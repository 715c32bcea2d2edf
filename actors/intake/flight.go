package intake

import "github.com/waystation/waystation/actors/repository"

// Failure says that a packet's outcome is not what Apply decided.
type Failure uint8

// The failures.
const (
	Decided     Failure = iota // none: Apply decided
	NotProposed                // certainly not in the log
	Unknown                    // in the log or not
)

// Outcome is what became of a proposed packet.
type Outcome struct {
	Result  repository.PublishResult
	Failure Failure
}

func (o *Outcome) accepted() bool {
	return o.Failure == Decided && (o.Result.Code == repository.OK || o.Result.Code == repository.Duplicate)
}

// Flight is a packet that was proposed, or is about to be. Between Offer and
// Resolve the caller may use Outcome and Next; the rest is the Filter's.
type Flight[W any] struct {
	// Outcome is set by the caller before Resolve.
	Outcome Outcome
	// Next links flights that are handed on together.
	Next *Flight[W]

	owner    *Filter[W]
	producer *producer[W] // nil: found by id
	row      uint64       // the producer's row in which it flies; 0: in none
	id       string
	crc      uint32
	attached []attached[W]
}

type attached[W any] struct {
	waiter W
	crc    uint32
}

// maxFree bounds what an idle filter keeps of flights.
const maxFree = 128

func (f *Filter[W]) fly(p *Packet) *Flight[W] {
	f.out++
	var fl *Flight[W]
	if n := len(f.free); n > 0 {
		fl = f.free[n-1]
		f.free = f.free[:n-1]
	} else {
		fl = &Flight[W]{}
	}
	fl.owner, fl.crc = f, p.ContentCRC
	return fl
}

func (f *Filter[W]) recycle(fl *Flight[W]) {
	*fl = Flight[W]{}
	if len(f.free) < maxFree {
		f.free = append(f.free, fl)
	}
}
