package repository

import (
	"bytes"
	"encoding/binary"
)

// The partition's keys in the state: partition u16, table u8, then the table's
// own parts, all big endian, so that the byte order is the order of service.
// docs/storage-format.md lays them out. The numbers are stored: never reuse one.
const (
	tableMeta     = 0x01
	tableGroup    = 0x02
	tableRepo     = 0x03
	tableProducer = 0x04
	tableLane     = 0x05
	tableRun      = 0x06
	tableID       = 0x07
	tableRunnable = 0x08
	tableLease    = 0x09
	tableDead     = 0x0a
	tableDeadline = 0x0b
	tableAge      = 0x0c
	tableDeadAge  = 0x0d
	tableIdle     = 0x0e
	tableManifest = 0x0f
	tableSpill    = 0x10
	tableResult   = 0x11
	tablePayload  = 0x12 // payloads that a dead letter, or a redriven packet, refers to
	tableAgain    = 0x13
	tableParking  = 0x14
)

const (
	metaApplied = 'a'
	metaConfig  = 'c'
	metaStats   = 's'
	metaFence   = 'f'
	metaConf    = 'v' // the replicas of the group, opaque here
	metaSpilled = 'x' // replica-local, as the spill is
)

// Who refers to a payload.
const (
	payloadDead  = 0
	payloadAgain = 1
)

const (
	spillRun    = 0
	spillSingle = 1
)

func (m *Machine) key(table byte) []byte {
	m.kbuf = append(m.kbuf[:0], byte(m.part>>8), byte(m.part), table)
	return m.kbuf
}

// save keeps k's memory for the next key.
func (m *Machine) save(k []byte) []byte { m.kbuf = k; return k }

// appendRepo escapes the zero byte and ends with one, so that no repository's
// keys lie among another's.
func appendRepo[T ~[]byte | ~string](b []byte, repo T) []byte {
	from := 0
	for i := 0; i < len(repo); i++ {
		if repo[i] == 0 {
			b = append(append(b, repo[from:i]...), 0, 0xff)
			from = i + 1
		}
	}
	return append(append(b, repo[from:]...), 0, 1)
}

// splitRepo reads what appendRepo wrote; ok is false when k is damaged.
func splitRepo(k []byte) (repo, rest []byte, ok bool) {
	i := bytes.IndexByte(k, 0)
	if i < 0 || i+1 >= len(k) {
		return nil, nil, false
	}
	if k[i+1] == 1 {
		return k[:i], k[i+2:], true
	}
	out := append([]byte(nil), k[:i]...)
	for i < len(k) {
		if k[i] != 0 {
			out = append(out, k[i])
			i++
			continue
		}
		if i+1 >= len(k) {
			return nil, nil, false
		}
		switch k[i+1] {
		case 1:
			return out, k[i+2:], true
		case 0xff:
			out = append(out, 0)
		default:
			return nil, nil, false
		}
		i += 2
	}
	return nil, nil, false
}

func appendU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func (m *Machine) keyMeta(kind byte) []byte   { return m.save(append(m.key(tableMeta), kind)) }
func (m *Machine) keyGroup(g GroupID) []byte  { return m.save(appendU32(m.key(tableGroup), uint32(g))) }
func (m *Machine) keyRepo(repo string) []byte { return m.save(appendRepo(m.key(tableRepo), repo)) }
func (m *Machine) keyFence(p string) []byte {
	return m.save(append(append(m.key(tableMeta), metaFence), p...))
}
func (m *Machine) keyManifest(i uint64) []byte { return m.save(appendU64(m.key(tableManifest), i)) }

func (m *Machine) keyProducer(repo, producer string) []byte {
	return m.save(append(appendRepo(m.key(tableProducer), repo), producer...))
}

func (m *Machine) keyLane(g GroupID, repo string) []byte {
	return m.save(appendRepo(appendU32(m.key(tableLane), uint32(g)), repo))
}

// keyRun ends with the run's last sequence, so that the run which holds a
// number, or the next one after it, is the first key at or above it: one seek.
func (m *Machine) keyRun(repo string, r Rank, last Seq) []byte {
	return m.save(appendU64(append(appendRepo(m.key(tableRun), repo), byte(r)), uint64(last)))
}

func (m *Machine) keyIDBucket(bucket uint32) []byte { return m.save(appendU32(m.key(tableID), bucket)) }

func (m *Machine) keyID(bucket uint32, repo string, id []byte) []byte {
	return m.save(append(appendRepo(appendU32(m.key(tableID), bucket), repo), id...))
}

func (m *Machine) keyRunnable(g GroupID, r Rank, ready int64, repo string) []byte {
	return m.save(appendRepo(appendU64(append(appendU32(m.key(tableRunnable), uint32(g)), byte(r)), uint64(ready)), repo))
}

func (m *Machine) keyLease(g GroupID, repo string) []byte {
	return m.save(appendRepo(appendU32(m.key(tableLease), uint32(g)), repo))
}

func (m *Machine) keyDead(g GroupID, repo string, s Seq) []byte {
	return m.save(appendU64(appendRepo(appendU32(m.key(tableDead), uint32(g)), repo), uint64(s)))
}

func (m *Machine) keyDeadline(at int64, repo string, r Rank, s Seq) []byte {
	return m.save(appendU64(append(appendRepo(appendU64(m.key(tableDeadline), uint64(at)), repo), byte(r)), uint64(s)))
}

func (m *Machine) keyAge(at int64, repo string) []byte {
	return m.save(appendRepo(appendU64(m.key(tableAge), uint64(at)), repo))
}

func (m *Machine) keyDeadAge(at int64, g GroupID, repo string, s Seq) []byte {
	return m.save(appendU64(appendRepo(appendU32(appendU64(m.key(tableDeadAge), uint64(at)), uint32(g)), repo), uint64(s)))
}

func (m *Machine) keyIdle(at int64, repo, producer string) []byte {
	return m.save(append(appendRepo(appendU64(m.key(tableIdle), uint64(at)), repo), producer...))
}

func (m *Machine) keySpill(index uint64, base uint32, kind byte) []byte {
	return m.save(append(appendU32(appendU64(m.key(tableSpill), index), base), kind))
}

func (m *Machine) keyResultBucket(bucket uint32) []byte {
	return m.save(appendU32(m.key(tableResult), bucket))
}

func (m *Machine) keyResult(bucket uint32, g GroupID, repo string, s Seq) []byte {
	return m.save(appendU64(appendRepo(appendU32(appendU32(m.key(tableResult), bucket), uint32(g)), repo), uint64(s)))
}

// keyPayload begins with where the payload lies, so that an entry's payloads, and
// all who refer to one, are found with one seek.
func (m *Machine) keyPayload(ref *Ref, of byte, g GroupID, repo string, s Seq) []byte {
	k := append(appendU32(appendU64(m.key(tablePayload), ref.Index), ref.Offset), of)
	return m.save(appendU64(appendRepo(appendU32(k, uint32(g)), repo), uint64(s)))
}

func (m *Machine) keyAgain(g GroupID, repo string, r Rank, s Seq) []byte {
	return m.save(appendU64(append(appendRepo(appendU32(m.key(tableAgain), uint32(g)), repo), byte(r)), uint64(s)))
}

func (m *Machine) keyParking(g GroupID, repo string) []byte {
	return m.save(appendRepo(appendU32(m.key(tableParking), uint32(g)), repo))
}

func cloneKey(k []byte) []byte { return bytes.Clone(k) }

// keyAfter is the least key above every key that begins with prefix, in new memory.
func keyAfter(prefix []byte) []byte {
	k := bytes.Clone(prefix)
	for i := len(k) - 1; i >= 0; i-- {
		if k[i] != 0xff {
			k[i]++
			return k[:i+1]
		}
	}
	return nil
}
