package repository

import "bytes"

// delayedID is an id that is remembered with the entry after its packet's, as it
// must not be: see invariant.DedupApart.
type delayedID struct {
	repo string
	id   []byte
	seq  Seq
	crc  uint32
	due  bool
}

// delayID keeps an id for the next entry, unless that is this one.
func (m *Machine) delayID(repo string, id []byte, seq Seq, crc uint32) bool {
	if len(m.delayed) > 0 && m.delayed[0].due {
		return false
	}
	m.delayed = append(m.delayed, delayedID{repo: repo, id: bytes.Clone(id), seq: seq, crc: crc})
	return true
}

// rememberDelayed remembers the ids of the entry before.
func (m *Machine) rememberDelayed() {
	for i := range m.delayed {
		m.delayed[i].due = true
	}
	for _, d := range m.delayed {
		m.rememberID(d.repo, d.id, d.seq, d.crc)
	}
	m.delayed = nil
}
