package repository

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// run is one record of the packets that one entry gave to one priority of one
// repository: references into the log, never the payload.
type run struct {
	index      uint64 // raft index of the entry
	acceptedMs int64
	base, end  uint32 // the packets' bytes lie in [base, end) of the entry
	items      []runItem
}

type runItem struct {
	seq      Seq
	offset   uint32
	length   uint32
	crc      uint32
	flags    byte
	expireMs int64 // 0: never
	readyMs  int64 // 0: at once
}

func (r *run) first() Seq { return r.items[0].seq }
func (r *run) last() Seq  { return r.items[len(r.items)-1].seq }

// above is where the run's packets above a number begin.
func (r *run) above(seq Seq) int {
	if r.items[0].seq > seq {
		return 0
	}
	return sort.Search(len(r.items), func(i int) bool { return r.items[i].seq > seq })
}

func (r *run) ref(i int) Ref {
	it := &r.items[i]
	return Ref{Index: r.index, Base: r.base, Offset: it.offset, Length: it.length, CRC: it.crc}
}

func (r *run) append(b []byte) []byte {
	b = append(b, version1)
	b = binary.AppendUvarint(b, r.index)
	b = binary.AppendUvarint(b, uint64(r.acceptedMs))
	b = binary.AppendUvarint(b, uint64(r.base))
	b = binary.AppendUvarint(b, uint64(r.end-r.base))
	b = binary.AppendUvarint(b, uint64(len(r.items)))
	seq, off := Seq(0), r.base
	for i := range r.items {
		it := &r.items[i]
		b = append(b, it.flags)
		b = binary.AppendUvarint(b, uint64(it.seq-seq))
		b = binary.AppendUvarint(b, uint64(it.offset-off))
		b = binary.AppendUvarint(b, uint64(it.length))
		b = binary.LittleEndian.AppendUint32(b, it.crc)
		if it.flags&itemTTL != 0 {
			b = binary.AppendUvarint(b, uint64(it.expireMs-r.acceptedMs))
		}
		if it.flags&itemDelay != 0 {
			b = binary.AppendUvarint(b, uint64(it.readyMs-r.acceptedMs))
		}
		seq, off = it.seq, it.offset+it.length
	}
	return b
}

// decode reads a run and keeps r's memory.
func (r *run) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	r.index, r.acceptedMs = d.uvarint(), int64(d.uvarint())
	r.base = uint32(d.uvarint())
	r.end = r.base + uint32(d.uvarint())
	n := d.uvarint()
	if n == 0 || n > uint64(len(b)/8) { // a packet takes eight bytes at least
		return fmt.Errorf("run of %d packets in %d bytes", n, len(b))
	}
	if r.items = r.items[:0]; uint64(cap(r.items)) < n {
		r.items = make([]runItem, 0, n)
	}
	seq, off := Seq(0), r.base
	for range n {
		it := runItem{flags: d.byte()}
		it.seq = seq + Seq(d.uvarint())
		it.offset = off + uint32(d.uvarint())
		it.length = uint32(d.uvarint())
		it.crc = d.uint32()
		if it.flags&itemTTL != 0 {
			it.expireMs = r.acceptedMs + int64(d.uvarint())
		}
		if it.flags&itemDelay != 0 {
			it.readyMs = r.acceptedMs + int64(d.uvarint())
		}
		if d.err != nil {
			return d.err
		}
		if it.seq <= seq {
			return fmt.Errorf("packet %d follows packet %d", it.seq, seq)
		}
		seq, off = it.seq, it.offset+it.length
		r.items = append(r.items, it)
	}
	return nil
}
