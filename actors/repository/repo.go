package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// rankState is what is retained of one priority of a repository.
type rankState struct {
	count   uint64 // retained packets
	first   Seq    // at or below the first retained one; what lies below it in a run is gone
	last    Seq    // the last one that was ever given
	delayed uint64 // retained packets with deliver_after
}

// repo is one repository's record, with the producers and lanes that were lately
// looked at. It is a cache of the state: dropping one loses nothing.
type repo struct {
	id    string
	head  Seq
	bytes uint64
	aged  int64 // its entry in the age index; 0: none
	ranks [Ranks]rankState

	touched    bool
	producers  map[string]*producer // nil: there is none of that name
	lanes      []laneSlot
	cost       int   // bytes of memory, about
	prev, next *repo // in the least-recently-used list
}

type laneSlot struct {
	group GroupID
	lane  *lane
}

func (r *repo) count() (n uint64) {
	for i := range r.ranks {
		n += r.ranks[i].count
	}
	return n
}

func (r *repo) append(b []byte) []byte {
	b = append(b, version1)
	b = binary.AppendUvarint(b, uint64(r.head))
	b = binary.AppendUvarint(b, r.bytes)
	b = binary.AppendUvarint(b, uint64(r.aged))
	for i := range r.ranks {
		s := &r.ranks[i]
		b = binary.AppendUvarint(b, s.count)
		b = binary.AppendUvarint(b, uint64(s.first))
		b = binary.AppendUvarint(b, uint64(s.last))
		b = binary.AppendUvarint(b, s.delayed)
	}
	return b
}

func (r *repo) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	r.head, r.bytes, r.aged = Seq(d.uvarint()), d.uvarint(), int64(d.uvarint())
	for i := range r.ranks {
		r.ranks[i] = rankState{count: d.uvarint(), first: Seq(d.uvarint()), last: Seq(d.uvarint()), delayed: d.uvarint()}
	}
	return d.err
}

// loadRepo returns the repository's record; it is new and empty if there is none.
func (m *Machine) loadRepo(id []byte) (*repo, error) {
	if r, ok := m.repos.get(id); ok {
		return r, nil
	}
	r := &repo{id: string(id)}
	key := m.keyRepo(r.id)
	v, ok, err := m.base.Get(key)
	if err != nil {
		return nil, err
	}
	if ok {
		if err := r.decode(v); err != nil {
			return nil, &CorruptError{bytes.Clone(key), err.Error()}
		}
	}
	m.repos.put(r)
	return r, nil
}

func (m *Machine) storeRepo(r *repo) {
	r.touched = false
	m.vbuf = r.append(m.vbuf[:0])
	m.eff.set(m.keyRepo(r.id), m.vbuf)
}
