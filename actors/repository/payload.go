package repository

import (
	"bytes"
	"encoding/binary"
)

// What a dead letter or a redriven packet refers to outlives the run that it was
// published in. The table of payloads says who refers to which, so that each is
// spilled on its own, and forgotten with the last of them.

// refer notes that something refers to a payload.
func (m *Machine) refer(ref *Ref, of byte, g GroupID, repo string, seq Seq) {
	m.vbuf = appendU32(m.vbuf[:0], ref.Length)
	m.eff.set(m.keyPayload(ref, of, g, repo, seq), m.vbuf)
}

// release takes a note back, and forgets the payload if it was the last one.
func (m *Machine) release(ref *Ref, of byte, g GroupID, repo string, seq Seq) {
	m.eff.delete(m.keyPayload(ref, of, g, repo, seq))
	if ref.Index <= m.spilled && !m.referred(ref) {
		m.eff.delete(m.keySpill(ref.Index, ref.Offset, spillSingle))
	}
}

// referred says whether any note on the payload is left. When the state can't be
// read one may be.
func (m *Machine) referred(ref *Ref) (found bool) {
	lower := bytes.Clone(appendU32(appendU64(m.key(tablePayload), ref.Index), ref.Offset))
	err := m.scan(lower, keyAfter(lower), func(_, _ []byte) bool {
		found = true
		return false
	})
	return found || err != nil
}

// payloads copies the payloads of an entry that are referred to one by one.
func (s *spiller) payloads() error {
	m := s.m
	lower := bytes.Clone(appendU64(m.key(tablePayload), s.index))
	type span struct{ offset, length uint32 }
	var spans []span
	bad := false
	err := m.base.Scan(lower, keyAfter(lower), func(k, v []byte) bool {
		if bad = len(v) != 4; bad {
			return false
		}
		x := span{binary.BigEndian.Uint32(k[len(lower):]), binary.BigEndian.Uint32(v)}
		if n := len(spans); n == 0 || spans[n-1] != x { // else two refer to it
			spans = append(spans, x)
		}
		return true
	})
	if bad {
		return &CorruptError{lower, "payload table"}
	}
	if err != nil {
		return err
	}
	for _, x := range spans {
		data, err := s.bytes(x.offset, x.offset+x.length)
		if err != nil {
			return err
		}
		m.vbuf = append(binary.BigEndian.AppendUint32(m.vbuf[:0], x.offset), data...)
		m.eff.set(m.keySpill(s.index, x.offset, spillSingle), m.vbuf)
	}
	return nil
}
