package repository

import "encoding/binary"

// head is what became of the first packet of a priority so far. There is one for
// each: what overtakes a packet that fails must not make its failures forgotten.
type head struct {
	seq         Seq
	attempts    uint32
	notBeforeMs int64 // back-off: it holds the lane. Not 0: it failed, and comes alone
	failures    failures
}

// Failure is one attempt at a packet that failed.
type Failure struct {
	AtMs int64 // log time
	// Silent says that the lease ran out: no worker said anything.
	Silent bool
	Error  string
}

// failures are the last attempts that failed, oldest first.
type failures []Failure

// keptFailures bounds how many attempts are remembered, maxErrorKept what is kept
// of each one's text, in bytes.
const (
	keptFailures = 10
	maxErrorKept = 512
)

// add appends to a copy: dead letters and lanes share the list.
func (f failures) add(x Failure) failures {
	if n := len(f) - keptFailures + 1; n > 0 {
		f = f[n:]
	}
	return append(f[:len(f):len(f)], x)
}

// last is the newest one's text.
func (f failures) last() string {
	if len(f) == 0 {
		return ""
	}
	return f[len(f)-1].Error
}

// silent says whether no worker ever said what was wrong: the packet may be what
// kills them.
func (f failures) silent() bool {
	for i := range f {
		if !f[i].Silent {
			return false
		}
	}
	return len(f) > 0
}

func (f failures) append(b []byte) []byte {
	b = append(b, byte(len(f)))
	at := int64(0)
	for i := range f {
		x := &f[i]
		b = binary.AppendVarint(b, x.AtMs-at)
		if at = x.AtMs; x.Silent {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		b = appendBytes(b, x.Error)
	}
	return b
}

func (f *failures) decode(d *decoder) {
	*f = nil
	at := int64(0)
	n := int(d.byte())
	if n > keptFailures {
		d.fail()
	}
	for ; n > 0 && d.err == nil; n-- {
		at += d.varint()
		*f = append(*f, Failure{AtMs: at, Silent: d.byte() != 0, Error: string(d.bytes())})
	}
}

// of is what is known of the packet.
func (h *head) of(seq Seq) head {
	if h.seq != seq {
		return head{seq: seq}
	}
	return *h
}

// release takes the attempt back that the grant charged: it never ran. What is
// known of it stays only if it failed before.
func (h *head) release(cursor Seq) {
	if h.seq <= cursor || h.attempts == 0 {
		return
	}
	if h.attempts--; h.attempts == 0 && h.notBeforeMs == 0 {
		*h = head{}
	}
}

// verdict is why the head is given up after a failure; 0: it is tried again.
func (h *head) verdict(most uint64, rejected bool) Reason {
	switch {
	case rejected:
		return ReasonRejected
	case uint64(h.attempts) < most:
		return 0
	case h.failures.silent():
		return ReasonPoison
	}
	return ReasonAttempts
}
