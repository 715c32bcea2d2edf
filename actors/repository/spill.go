package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The spill is a replica's own copy of payloads that outlive the log's prefix. It
// decides nothing: replicas are compared without it. An entry is spilled once,
// before the log is truncated above it; from then on its references resolve here.

// noteManifest remembers which runs an entry made, so that the truncation finds
// them without a scan.
func (m *Machine) noteManifest(repo string, rank Rank, x *run) {
	b := appendBytes(m.manifest, repo)
	b = append(b, byte(rank))
	b = binary.AppendUvarint(b, uint64(x.first()))
	m.manifest = binary.AppendUvarint(b, uint64(x.last()-x.first()))
}

// Spilled is the index up to which entries are spilled: the log may be truncated
// through it once that is durable.
func (m *Machine) Spilled() uint64 { return m.spilled }

// Spill adds to eff what of the entry at index is still referred to, and that it
// is spilled. Entries are spilled in order: index is Spilled()+1. read returns the
// entry's bytes and is called only if something lives. Call it from the apply
// loop, between entries.
func (m *Machine) Spill(index uint64, read func() ([]byte, error), eff *Effects) error {
	m.eff = eff
	defer func() { m.eff = nil }()
	if index != m.spilled+1 {
		return fmt.Errorf("spill entry %d: %d is next", index, m.spilled+1)
	}
	sp := spiller{m: m, index: index, read: read}
	if err := sp.runs(); err != nil {
		return err
	}
	if err := sp.payloads(); err != nil {
		return err
	}
	eff.delete(m.keyManifest(index))
	eff.set(m.keyMeta(metaSpilled), binary.BigEndian.AppendUint64(m.vbuf[:0], index))
	m.spilled = index
	return nil
}

// settledWalk bounds how many entries one call of Settled looks at.
const settledWalk = 512

// Settled is the highest index, at most upTo, to which the log is as good as
// settled: of what its entries hold beyond the spill, little is still referred to,
// so that spilling costs next to nothing. Call it as Spill.
func (m *Machine) Settled(upTo uint64) (uint64, error) {
	reached := m.spilled
	all, living := 0, 0
	for i := m.spilled + 1; i <= min(upTo, m.spilled+settledWalk); i++ {
		n, alive, err := m.living(i)
		if err != nil {
			return 0, err
		}
		all, living = all+n, living+alive
		if living > all/8+8 {
			break
		}
		reached = i
	}
	return reached, nil
}

// living counts an entry's runs, and those of them that are still referred to.
func (m *Machine) living(index uint64) (all, living int, err error) {
	key := bytes.Clone(m.keyManifest(index))
	v, ok, err := m.base.Get(key)
	if err != nil || !ok {
		return 0, 0, err
	}
	defer m.repos.trim()
	d := decoder{b: bytes.Clone(v)}
	for d.more() {
		repo, rank, first := d.bytes(), Rank(d.byte()), Seq(d.uvarint())
		last := first + Seq(d.uvarint())
		if d.err != nil || rank >= Ranks {
			return 0, 0, &CorruptError{key, "manifest"}
		}
		r, err := m.loadRepo(repo)
		if err != nil {
			return 0, 0, err
		}
		all++
		if r.ranks[rank].count > 0 && last >= r.ranks[rank].first {
			living++
		}
	}
	return all, living, nil
}

type spiller struct {
	m     *Machine
	index uint64
	read  func() ([]byte, error)
	data  []byte
}

func (s *spiller) bytes(from, to uint32) ([]byte, error) {
	if s.data == nil {
		var err error
		if s.data, err = s.read(); err != nil {
			return nil, fmt.Errorf("read entry %d: %w", s.index, err)
		}
	}
	if from > to || uint64(to) > uint64(len(s.data)) {
		return nil, fmt.Errorf("spill entry %d: reference [%d,%d) in %d bytes", s.index, from, to, len(s.data))
	}
	return s.data[from:to], nil
}

// runs copies what lives of the entry's runs.
func (s *spiller) runs() error {
	m := s.m
	key := bytes.Clone(m.keyManifest(s.index))
	v, ok, err := m.base.Get(key)
	if err != nil || !ok {
		return err
	}
	d := decoder{b: bytes.Clone(v)}
	for d.more() {
		repo, rank, first := d.bytes(), Rank(d.byte()), Seq(d.uvarint())
		last := first + Seq(d.uvarint())
		if d.err != nil || rank >= Ranks {
			break
		}
		r, err := m.loadRepo(repo)
		if err != nil {
			return err
		}
		if m.repos.trim(); r.ranks[rank].count == 0 || last < r.ranks[rank].first {
			continue // settled: nothing refers to it
		}
		if err := s.run(r, rank, first, last); err != nil {
			return err
		}
	}
	if d.err != nil {
		return &CorruptError{key, d.err.Error()}
	}
	return nil
}

func (s *spiller) run(r *repo, rank Rank, first, last Seq) error {
	m := s.m
	for w := m.walk(r, nil, rank, max(first, r.ranks[rank].first)); ; {
		x, err := w.next()
		if err != nil || x == nil || x.first() > last {
			return err
		}
		if x.index == s.index {
			return s.copy(x, x.above(r.ranks[rank].first-1))
		}
	}
}

// copy keeps a run's payloads from its first retained packet on.
func (s *spiller) copy(x *run, live int) error {
	m, from := s.m, x.items[live].offset
	to := x.items[len(x.items)-1].offset + x.items[len(x.items)-1].length
	data, err := s.bytes(from, to)
	if err != nil {
		return err
	}
	m.vbuf = append(binary.BigEndian.AppendUint32(m.vbuf[:0], from), data...)
	m.eff.set(m.keySpill(s.index, x.base, spillRun), m.vbuf)
	return nil
}

// dropSpill deletes a run's spilled payload, if it is spilled.
func (m *Machine) dropSpill(index uint64, base uint32) {
	if index <= m.spilled {
		m.eff.delete(m.keySpill(index, base, spillRun))
	}
}

// rescue gives a new dead letter its own copy, if its run is spilled already: the
// run's copy goes with the run. What can't be read stays unread, and is named
// when somebody asks for it.
func (m *Machine) rescue(ref Ref) {
	if ref.Index > m.spilled {
		return
	}
	data, ok, err := m.spilledBytes(ref, spillRun, ref.Base)
	if err != nil || !ok {
		return
	}
	m.vbuf = append(binary.BigEndian.AppendUint32(m.vbuf[:0], ref.Offset), data...)
	m.eff.set(m.keySpill(ref.Index, ref.Offset, spillSingle), m.vbuf)
}

func (m *Machine) spilledBytes(ref Ref, kind byte, base uint32) ([]byte, bool, error) {
	key := m.keySpill(ref.Index, base, kind)
	v, ok, err := m.get(key)
	if err != nil || !ok {
		return nil, false, err
	}
	if len(v) < 4 {
		return nil, false, &CorruptError{bytes.Clone(key), "shorter than its header"}
	}
	start := binary.BigEndian.Uint32(v)
	if ref.Offset < start || uint64(ref.Offset-start)+uint64(ref.Length) > uint64(len(v)-4) {
		return nil, false, &CorruptError{bytes.Clone(key), "reference outside of the record"}
	}
	at := 4 + ref.Offset - start
	return bytes.Clone(v[at : at+ref.Length]), true, nil
}

// ReadSpill returns the payload that ref refers to, in new memory, if this replica
// has spilled it.
func (m *Machine) ReadSpill(ref Ref) ([]byte, bool, error) {
	data, ok, err := m.spilledBytes(ref, spillSingle, ref.Offset)
	if err != nil || ok {
		return data, ok, err
	}
	return m.spilledBytes(ref, spillRun, ref.Base)
}
