package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// again is a packet that was redriven: one group's alone, under a new number, with
// its payload where it lay. Beside what was published, in the order of the numbers,
// it waits in that group's lane; nobody else ever sees it.
type again struct {
	seq        Seq
	of         Seq // the number that it was a dead letter under
	acceptedMs int64
	deadlineMs int64 // its retention
	ref        Ref
}

func (x *again) append(b []byte) []byte {
	b = append(b, version1)
	b = binary.AppendUvarint(b, uint64(x.of))
	b = binary.AppendUvarint(b, uint64(x.acceptedMs))
	b = binary.AppendUvarint(b, uint64(x.deadlineMs))
	return x.ref.append(b)
}

func (x *again) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	x.of, x.acceptedMs, x.deadlineMs = Seq(d.uvarint()), int64(d.uvarint()), int64(d.uvarint())
	x.ref.decode(&d)
	return d.err
}

func (x *again) head() headOf {
	return headOf{
		item:       runItem{seq: x.seq, offset: x.ref.Offset, length: x.ref.Length, crc: x.ref.CRC},
		ref:        x.ref,
		acceptedMs: x.acceptedMs,
		of:         x.of,
	}
}

// redriven lists at most limit redriven packets of a lane's priority above a number.
func (m *Machine) redriven(g *group, r *repo, rank Rank, after Seq, limit int) (list []again, err error) {
	lower := bytes.Clone(m.keyAgain(g.cfg.ID, r.id, rank, after+1))
	upper := keyAfter(lower[:len(lower)-8])
	var failed error
	err = m.scan(lower, upper, func(k, v []byte) bool {
		x := again{seq: Seq(binary.BigEndian.Uint64(k[len(k)-8:]))}
		if err := x.decode(v); err != nil {
			failed = &CorruptError{bytes.Clone(k), err.Error()}
			return false
		}
		list = append(list, x)
		return len(list) < limit
	})
	if failed != nil {
		return nil, failed
	}
	return list, err
}

// nextOf is the first packet that waits in a lane at a priority above a number; its
// seq is 0 if there is none.
func (m *Machine) nextOf(g *group, r *repo, l *lane, rank Rank, after Seq) (headOf, error) {
	h, err := m.itemAfter(r, l, rank, after)
	if err != nil || l.again[rank] == 0 {
		return h, err
	}
	list, err := m.redriven(g, r, rank, after, 1)
	if err != nil || len(list) == 0 || h.item.seq != 0 && h.item.seq < list[0].seq {
		return h, err
	}
	return list[0].head(), nil
}

// mixed lists what waits in a lane at a priority, published and redriven, with
// numbers in (after, upTo], at most limit packets.
func (m *Machine) mixed(g *group, r *repo, l *lane, rank Rank, after, upTo Seq, limit int) (list []headOf, err error) {
	redriven, err := m.redriven(g, r, rank, after, min(limit, int(l.again[rank])))
	if err != nil {
		return nil, err
	}
	add := func(x headOf) bool {
		for len(redriven) > 0 && redriven[0].seq < x.item.seq && len(list) < limit {
			list, redriven = append(list, redriven[0].head()), redriven[1:]
		}
		if x.item.seq > upTo || len(list) == limit {
			return false
		}
		list = append(list, x)
		return true
	}
	for w, more := m.walk(r, l, rank, after+1), true; more; {
		x, err := w.next()
		if err != nil {
			return nil, err
		}
		if x == nil {
			break
		}
		for i := x.above(after); i < len(x.items) && more; i++ {
			more = add(x.head(i))
		}
	}
	add(headOf{item: runItem{seq: upTo + 1}}) // the redriven ones behind
	return list, nil
}

// redrive puts a dead letter at the end of its lane again.
func (m *Machine) redrive(g *group, r *repo, l *lane, dead *deadRecord, of Seq) {
	r.head = max(r.head, floor(m.index)) + 1
	x := again{
		seq: r.head, of: of, acceptedMs: m.logTimeMs, ref: dead.ref,
		deadlineMs: m.logTimeMs + int64(m.cfg.RetentionMs),
	}
	m.vbuf = x.append(m.vbuf[:0])
	m.eff.setNew(m.keyAgain(g.cfg.ID, r.id, dead.rank, x.seq), m.vbuf)
	m.eff.setNew(m.keyDeadline(x.deadlineMs, r.id, dead.rank, x.seq), nil)
	m.refer(&x.ref, payloadAgain, g.cfg.ID, r.id, x.seq)
	l.again[dead.rank]++
	l.dirty = true
	g.waiting[dead.rank]++
	g.dirty = true
	m.touchRepo(r)
	m.touch(g, r, l)
}

// takeAgain forgets a redriven packet, and its payload if nobody else refers to it.
func (m *Machine) takeAgain(g *group, r *repo, l *lane, rank Rank, x *again) {
	m.eff.delete(m.keyAgain(g.cfg.ID, r.id, rank, x.seq))
	m.eff.delete(m.keyDeadline(x.deadlineMs, r.id, rank, x.seq))
	m.release(&x.ref, payloadAgain, g.cfg.ID, r.id, x.seq)
	l.again[rank]--
	l.dirty = true
}

// passSlice is how many redriven packets are read at once: as many as a delivery has.
const passSlice = 32

// passAgain forgets what of a lane's redriven packets a cursor passes.
func (m *Machine) passAgain(g *group, r *repo, l *lane, rank Rank, to Seq) (passed uint64, err error) {
	for after, more := Seq(0), l.again[rank] > 0; more; {
		list, err := m.redriven(g, r, rank, after, passSlice)
		if err != nil {
			return passed, err
		}
		more = len(list) == passSlice
		for i := range list {
			if list[i].seq > to {
				return passed, nil
			}
			m.takeAgain(g, r, l, rank, &list[i])
			after = list[i].seq
			passed++
		}
	}
	return passed, nil
}

// expireAgain ends a redriven packet that is older than its retention; keepMs is
// for how long a grant, or its being the dead packet that holds a lane, exempts it.
func (m *Machine) expireAgain(r *repo, rank Rank, seq Seq) (keepMs int64, err error) {
	for _, g := range m.groups {
		l, err := m.loadLane(g, r)
		if err != nil {
			return 0, err
		}
		if l.again[rank] == 0 {
			continue
		}
		list, err := m.redriven(g, r, rank, seq-1, 1)
		if err != nil {
			return 0, err
		}
		if len(list) == 0 || list[0].seq != seq {
			continue
		}
		if keepMs := l.exempts(rank, seq); keepMs != 0 {
			return keepMs, nil
		}
		return 0, m.endAgain(g, r, l, rank, &list[0], ReasonRetention)
	}
	return 0, m.removeExpired(r, rank, seq)
}

// removeExpired forgets a redriven packet of a deleted group at its retention, should
// its removal not have come to it yet.
func (m *Machine) removeExpired(r *repo, rank Rank, seq Seq) error {
	for _, g := range m.doomed {
		list, err := m.redriven(g, r, rank, seq-1, 1)
		if err != nil {
			return err
		}
		if len(list) > 0 && list[0].seq == seq {
			m.eff.delete(m.keyAgain(g.cfg.ID, r.id, rank, seq))
			m.release(&list[0].ref, payloadAgain, g.cfg.ID, r.id, seq)
		}
	}
	return nil
}

// endAgain buries a redriven packet, wherever in its lane it is.
func (m *Machine) endAgain(g *group, r *repo, l *lane, rank Rank, x *again, reason Reason) error {
	h := x.head()
	head, err := m.nextOf(g, r, l, rank, l.cursors[rank])
	if err != nil {
		return err
	}
	known := l.heads[rank].of(x.seq)
	m.bury(g, r, rank, &h, reason, &known)
	if head.item.seq == x.seq {
		return m.pass(g, r, l, rank, x.seq)
	}
	m.takeAgain(g, r, l, rank, x)
	g.waiting[rank] -= min(1, g.waiting[rank])
	m.touch(g, r, l)
	return nil
}
