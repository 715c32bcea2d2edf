package repository

import (
	"encoding/binary"
	"fmt"

	"github.com/waystation/waystation/internal/invariant"
)

// bucket is a slice of log time whose dedup ids and results are dropped together.
type bucket struct {
	id             uint32
	startMs, endMs int64
	untilMs        int64  // when the last of its results ends
	filter         *bloom // nil: was there before this process, so every id may be in it
}

// maxBuckets: six make the window, and one is being filled.
const maxBuckets = 7

// rollBuckets opens the bucket of the current log time. When the window was raised
// there are as many as there may be, narrow ones that stay for longer now: then the
// newest goes on, and nothing is forgotten before its time.
func (m *Machine) rollBuckets() {
	n := len(m.buckets)
	if n > 0 && m.logTimeMs < m.buckets[n-1].endMs {
		return
	}
	m.dropBuckets()
	m.statsDirty = true
	end := m.logTimeMs + (m.bucketsKept()+maxBuckets-2)/(maxBuckets-1)
	if n = len(m.buckets); n == maxBuckets {
		m.buckets[n-1].endMs = end
		return
	}
	m.buckets = append(m.buckets, bucket{id: m.stats.nextBucket, startMs: m.logTimeMs, endMs: end, filter: newBloom()})
	m.stats.nextBucket++
}

// bucketsKept is how long a bucket is expected to stay after its end. How long it does
// is said by what is in it.
func (m *Machine) bucketsKept() int64 {
	kept := max(m.cfg.DedupWindowMs, m.cfg.ResultTTLMs)
	for _, g := range m.groups {
		kept = max(kept, g.cfg.longestTTL())
	}
	return int64(kept)
}

// dropBuckets forgets the buckets that end before the window begins, each whole.
func (m *Machine) dropBuckets() {
	for len(m.buckets) > 0 && m.expired(&m.buckets[0], m.logTimeMs) {
		id := m.buckets[0].id
		m.eff.deleteRange(cloneKey(m.keyIDBucket(id)), cloneKey(m.keyIDBucket(id+1)))
		m.eff.deleteRange(cloneKey(m.keyResultBucket(id)), cloneKey(m.keyResultBucket(id+1)))
		m.buckets = append(m.buckets[:0], m.buckets[1:]...)
		m.statsDirty = true
	}
}

// expired says whether nothing in the bucket counts any more.
func (m *Machine) expired(b *bucket, now int64) bool {
	return max(b.endMs+int64(m.cfg.DedupWindowMs), b.untilMs) <= now
}

func (m *Machine) bucketNow() uint32 {
	m.rollBuckets()
	return m.buckets[len(m.buckets)-1].id
}

// findID looks an id up in the buckets of the window, newest first. An id that is
// older than the window is not found, wherever its bucket ends, unless a result is kept
// for it.
func (m *Machine) findID(repo string, id []byte) (seq Seq, crc uint32, found bool, err error) {
	seq, _, crc, found, err = m.lookID(repo, id)
	return seq, crc, found, err
}

// lookID is findID, and answers since when the id counts as known: one whose result is
// kept for longer than the window, from later on than it was.
func (m *Machine) lookID(repo string, id []byte) (seq Seq, at int64, crc uint32, found bool, err error) {
	h := hashID(repo, id)
	for i := len(m.buckets) - 1; i >= 0; i-- {
		b := &m.buckets[i]
		if m.expired(b, m.logTimeMs) {
			continue
		}
		if b.filter != nil && !b.filter.has(h) {
			continue
		}
		key := m.keyID(b.id, repo, id)
		v, ok, err := m.get(key)
		if err != nil {
			return 0, 0, 0, false, err
		}
		if !ok {
			continue
		}
		d := decoder{b: v}
		version, seq, at, crc := d.byte(), Seq(d.uvarint()), int64(d.uvarint()), d.uint32()
		if d.err != nil || version != version1 {
			return 0, 0, 0, false, &CorruptError{cloneKey(key), fmt.Sprintf("dedup id, version %d: %v", version, d.err)}
		}
		if at+int64(m.cfg.DedupWindowMs) <= m.logTimeMs {
			return 0, 0, 0, false, nil
		}
		return seq, at, crc, true, nil
	}
	return 0, 0, 0, false, nil
}

// rememberID records an id in the same batch as its packet.
func (m *Machine) rememberID(repo string, id []byte, seq Seq, crc uint32) {
	if invariant.Broken(invariant.DedupApart) && m.delayID(repo, id, seq, crc) {
		return
	}
	m.writeID(repo, id, seq, crc, m.logTimeMs)
}

// writeID has an id be known from a log time on, for the dedup window.
func (m *Machine) writeID(repo string, id []byte, seq Seq, crc uint32, at int64) {
	b := m.bucketNow()
	v := binary.AppendUvarint(append(m.vbuf[:0], version1), uint64(seq))
	v = binary.AppendUvarint(v, uint64(at))
	m.vbuf = binary.LittleEndian.AppendUint32(v, crc)
	m.eff.set(m.keyID(b, repo, id), m.vbuf)
	if f := m.buckets[len(m.buckets)-1].filter; f != nil {
		f.add(hashID(repo, id))
	}
}
