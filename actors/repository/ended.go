package repository

import (
	"encoding/binary"
	"fmt"
)

// ended is how a lease ended.
type ended struct {
	token   Token
	kind    SettleKind
	through Seq
	failed  Seq // 0 unless the settlement named a packet that failed
}

// endedKept is how many leases of a lane are remembered after their end. An answer
// that was lost is asked for again within a round trip or two, in which a busy lane
// may be leased anew more than once; who comes later than that is stale.
const endedKept = 4

// endedLeases are the leases of a lane that ended last, newest first; those of
// token 0 never were.
type endedLeases [endedKept]ended

func (e *endedLeases) add(x ended) {
	copy(e[1:], e[:])
	e[0] = x
}

// again answers a settlement under a token that is not the lane's lease: fine if
// it says what that lease ended with, else refused.
func (e *endedLeases) again(s *Settle) Code {
	for i := range e {
		if x := &e[i]; x.token == s.Token && x.token != 0 && x.says(s) {
			return OK
		}
	}
	return Stale
}

func (e *ended) says(s *Settle) bool {
	return s.Through <= e.through && (!s.Kind.fails() || s.Kind == e.kind && s.Failed == e.failed)
}

// append writes each as how it differs from the one after it: five bytes as a rule.
func (e *endedLeases) append(b []byte) []byte {
	n := 0
	for n < len(e) && e[n].token != 0 {
		n++
	}
	b = append(b, byte(n))
	var after ended
	for i := range n {
		x := &e[i]
		if i == 0 {
			b = binary.AppendUvarint(b, uint64(x.token))
		} else {
			b = binary.AppendUvarint(b, uint64(after.token-x.token))
		}
		b = append(b, byte(x.kind))
		b = binary.AppendVarint(b, int64(x.through-after.through))
		if x.kind.fails() {
			b = binary.AppendVarint(b, int64(x.failed-x.through))
		}
		after = *x
	}
	return b
}

func (e *endedLeases) decode(d *decoder) error {
	n := int(d.byte())
	if n > len(e) {
		return fmt.Errorf("%d ended leases", n)
	}
	var after ended
	for i := range n {
		x := ended{token: Token(d.uvarint()), kind: SettleKind(d.byte())}
		if i > 0 {
			x.token = after.token - x.token
		}
		x.through = after.through + Seq(d.varint())
		if x.kind.fails() {
			x.failed = x.through + Seq(d.varint())
		}
		if d.err != nil {
			return d.err
		}
		if x.token == 0 || i > 0 && x.token >= after.token || x.kind > SettleExpire {
			return fmt.Errorf("ended lease %d of kind %d", x.token, x.kind)
		}
		e[i], after = x, x
	}
	return nil
}
