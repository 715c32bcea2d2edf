package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// DeadAction is what is to be done to dead letters.
type DeadAction uint8

// The actions. They are stored in the log: never renumber.
const (
	DeadRedrive DeadAction = 1
	DeadDiscard DeadAction = 2
)

// DeadFilter names dead letters of a group, in the order of repository and number.
type DeadFilter struct {
	Group   GroupID
	Repo    []byte // empty: of all
	Seq     Seq    // 0: all of Repo
	Reason  Reason // 0: any
	SinceMs int64  // dead from then on, in log time; 0: whenever
	UntilMs int64  // dead by then; 0: whenever
	After   []byte // DeadOutcome.Next of the command before; nil at first
	Tag     uint64 // finds the outcome among those of an entry
}

// Names says whether the reason and the times are those of a dead letter.
func (f *DeadFilter) Names(x *DeadLetter) bool {
	return (f.Reason == 0 || x.Reason == f.Reason) && x.AtMs >= f.SinceMs && (f.UntilMs == 0 || x.AtMs <= f.UntilMs)
}

// AddDead does something to the dead letters that f names, and looks at limit of
// the group's at most.
func (e *EntryBuilder) AddDead(action DeadAction, f *DeadFilter, limit uint32) {
	e.begin(cmdDead)
	b := binary.AppendUvarint(append(e.b, byte(action)), uint64(f.Group))
	b = appendBytes(b, f.Repo)
	b = binary.AppendUvarint(b, uint64(f.Seq))
	b = append(b, byte(f.Reason))
	b = binary.AppendUvarint(b, uint64(f.SinceMs))
	b = binary.AppendUvarint(b, uint64(f.UntilMs))
	b = appendBytes(b, f.After)
	b = binary.AppendUvarint(b, f.Tag)
	e.b = binary.AppendUvarint(b, uint64(limit))
	e.end()
}

// endDead redrives or discards dead letters.
func (m *Machine) endDead(body []byte) error {
	d := decoder{b: body}
	action := DeadAction(d.byte())
	f := DeadFilter{Group: GroupID(d.uvarint()), Repo: d.bytes(), Seq: Seq(d.uvarint()), Reason: Reason(d.byte())}
	f.SinceMs, f.UntilMs = int64(d.uvarint()), int64(d.uvarint())
	f.After, f.Tag = d.bytes(), d.uvarint()
	limit := d.limit()
	if action != DeadRedrive && action != DeadDiscard {
		d.fail()
	}
	if d.err != nil {
		return fmt.Errorf("decode command about dead letters: %w", d.err)
	}
	out := DeadOutcome{Code: UnknownGroup}
	if g := m.group(f.Group); g != nil {
		var err error
		if out, err = m.endDeadOf(g, action, &f, limit); err != nil {
			return err
		}
	}
	out.Tag = f.Tag
	m.eff.Results.Dead = append(m.eff.Results.Dead, out)
	return nil
}

func (m *Machine) endDeadOf(g *group, action DeadAction, f *DeadFilter, limit int) (out DeadOutcome, err error) {
	var list []DeadLetter
	if list, out.Looked, out.Next, err = m.named(f, limit); err != nil {
		return out, err
	}
	do := m.discard
	if action == DeadRedrive {
		do = m.revive
	}
	for i := range list {
		done, err := do(g, list[i].Repo, list[i].Seq)
		if err != nil {
			return out, err
		}
		if done {
			out.Count++
		}
	}
	return out, nil
}

// named lists the dead letters that f names, among the next limit ones.
func (m *Machine) named(f *DeadFilter, limit int) (list []DeadLetter, seen int, next []byte, err error) {
	prefix := bytes.Clone(appendU32(m.key(tableDead), uint32(f.Group)))
	lower, upper := deadRange(prefix, f.Repo, f.After)
	if f.Seq != 0 {
		lower = bytes.Clone(m.keyDead(f.Group, string(f.Repo), f.Seq))
		upper = append(bytes.Clone(lower), 0)
	}
	var failed error
	err = m.scan(lower, upper, func(k, v []byte) bool {
		if seen == limit {
			return false
		}
		x, ok := decodeDead(k[len(prefix):], v)
		if !ok {
			failed = &CorruptError{bytes.Clone(k), "dead letter"}
			return false
		}
		seen++
		next = append(next[:0], k[len(prefix):]...)
		if f.Names(&x) {
			list = append(list, x)
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	if seen < limit {
		next = nil
	}
	return list, seen, next, err
}
