package repository

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Left is what a worker left with a packet that is done, as a settlement carries it
// and the state keeps it. What Apply needs of the packet itself travels with it,
// because the packet's bytes lie in the log, where Apply does not look.
type Left struct {
	// Packed says that Data is compressed with zstd. It is the proposer's doing: what
	// a compressor makes of the same bytes may differ between two builds.
	Packed bool
	// Kind is the packet's: it may have a time to live of its own.
	Kind []byte
	// ID is the packet's, and ContentCRC that of its content; empty: it has none. A
	// resend under it gets the packet's number for as long as the result is kept.
	ID         []byte
	ContentCRC uint32
	Data       []byte
}

// Flags of a result.
const (
	leftPacked = 1 << 0
	leftID     = 1 << 1
	leftMoved  = 1 << 2 // of a kept one alone: another number has it
)

// Append encodes x, for SettleResult.
func (x *Left) Append(b []byte) []byte {
	b = append(b, x.flags())
	b = appendBytes(b, x.Kind)
	if len(x.ID) > 0 {
		b = appendBytes(b, x.ID)
		b = binary.LittleEndian.AppendUint32(b, x.ContentCRC)
	}
	return append(b, x.Data...)
}

func (x *Left) flags() (flags byte) {
	if x.Packed {
		flags |= leftPacked
	}
	if len(x.ID) > 0 {
		flags |= leftID
	}
	return flags
}

var errLeft = errors.New("result: flags are not known")

// Decode reads what Append wrote. x refers to b.
func (x *Left) Decode(b []byte) error {
	d := decoder{b: b}
	flags := d.byte()
	*x = Left{Packed: flags&leftPacked != 0, Kind: d.bytes()}
	if flags&leftID != 0 {
		x.ID, x.ContentCRC = d.bytes(), d.uint32()
	}
	if d.err == nil && flags >= leftMoved {
		return errLeft
	}
	if d.err == nil {
		x.Data = b[d.off:]
	}
	return d.err
}

// keepResult stores what a worker left with a packet, and the packet's id anew: a
// resend is a duplicate for as long as there is a result to answer it with.
func (m *Machine) keepResult(g *group, r *repo, rank Rank, l *lane, q *SettleResult) error {
	var x Left
	if err := x.Decode(q.Result); err != nil {
		return err
	}
	ttl := g.cfg.ResultTTL(x.Kind)
	if ttl == 0 {
		ttl = m.cfg.ResultTTLMs
	}
	until := m.logTimeMs + int64(ttl)
	in := m.bucketNow()
	if b := &m.buckets[len(m.buckets)-1]; until > b.untilMs {
		b.untilMs, m.statsDirty = until, true
	}
	b := binary.AppendUvarint(append(m.vbuf[:0], version1, x.flags()&leftPacked), uint64(until))
	m.vbuf = append(b, x.Data...)
	m.eff.set(m.keyResult(in, g.cfg.ID, r.id, q.Seq), m.vbuf)
	if len(x.ID) > 0 {
		if err := m.prolongID(r.id, x.ID, q.Seq, x.ContentCRC, until); err != nil {
			return err
		}
	}
	if l.again[rank] == 0 {
		return nil
	}
	list, err := m.redriven(g, r, rank, q.Seq-1, 1)
	if err != nil || len(list) == 0 || list[0].seq != q.Seq {
		return err
	}
	// Who knows the packet by the number that it had first finds its result too.
	b = binary.AppendUvarint(append(m.vbuf[:0], version1, leftMoved), uint64(until))
	m.vbuf = binary.AppendUvarint(b, uint64(q.Seq))
	m.eff.set(m.keyResult(in, g.cfg.ID, r.id, list[0].of), m.vbuf)
	return nil
}

// prolongID has the id of a packet be known until its result ends, and for what is left
// of the window in any case: that is looked up only where it may be the longer.
func (m *Machine) prolongID(repo string, id []byte, seq Seq, crc uint32, until int64) error {
	at := until - int64(m.cfg.DedupWindowMs)
	if at < m.logTimeMs {
		known, since, _, found, err := m.lookID(repo, id)
		switch {
		case err != nil:
			return err
		case found && (known > seq || known == seq && since >= at):
			return nil
		case found:
			at = max(at, since)
		}
	}
	m.writeID(repo, id, seq, crc, at)
	return nil
}

// Result is what a worker left with a packet.
type Result struct {
	Packed  bool  // Data is compressed with zstd
	UntilMs int64 // log time at which it ends
	Data    []byte
	Seq     Seq // whose it is: another one where the packet was redriven
}

// maxMoved bounds how often a packet that was redriven is followed.
const maxMoved = 16

// ResultOf returns what a worker of the group left with a packet, in new memory. One
// whose time to live has passed is not found, swept or not.
func (m *Machine) ResultOf(id GroupID, repo []byte, seq Seq) (x Result, ok bool, err error) {
	for range maxMoved {
		moved, err := m.resultAt(id, repo, seq, &x)
		if err != nil || moved == 0 {
			return x, x.UntilMs > m.logTimeMs, err
		}
		seq = moved
	}
	return Result{}, false, nil
}

// resultAt reads the result that is kept under a number into x, or else the number
// that it moved to. What there is not ends at 0.
func (m *Machine) resultAt(id GroupID, repo []byte, seq Seq, x *Result) (moved Seq, err error) {
	*x = Result{Seq: seq}
	for i := len(m.buckets) - 1; i >= 0; i-- {
		key := m.keyResult(m.buckets[i].id, id, string(repo), seq)
		v, ok, err := m.base.Get(key)
		if err != nil {
			return 0, err
		}
		if !ok {
			continue
		}
		d := decoder{b: v}
		version, flags, until := d.byte(), d.byte(), int64(d.uvarint())
		if flags == leftMoved {
			moved = Seq(d.uvarint())
		}
		if d.err != nil || version != version1 || flags&^(leftPacked|leftMoved) != 0 {
			return 0, &CorruptError{cloneKey(key), "result"}
		}
		if moved == 0 {
			*x = Result{Packed: flags&leftPacked != 0, UntilMs: until, Data: bytes.Clone(v[d.off:]), Seq: seq}
		}
		return moved, nil
	}
	return 0, nil
}
