package repository

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// housekeep drops dedup buckets past the window, and at most limit producers and
// fences that were idle for long.
func (m *Machine) housekeep(limit int) error {
	m.dropBuckets()
	list, err := m.collectDue(tableIdle, m.logTimeMs-int64(m.cfg.ProducerIdleMs), limit)
	if err != nil {
		return err
	}
	for i := range list {
		name, producer, ok := splitRepo(list[i].id)
		if !ok {
			return &CorruptError{list[i].key, "producer index"}
		}
		r, err := m.loadRepo(name)
		if err != nil {
			return err
		}
		p, err := m.loadProducer(r, producer)
		if err != nil {
			return err
		}
		m.eff.Results.Worked++
		m.eff.delete(list[i].key)
		switch {
		case p == nil:
		case p.seenMs+int64(m.cfg.ProducerIdleMs) <= m.logTimeMs:
			m.dropProducer(r, string(producer))
		default: // seen since: the index is a lower bound
			m.eff.set(m.keyIdle(p.seenMs, r.id, string(producer)), nil)
		}
	}
	m.dropFences(limit)
	return nil
}

// fence refuses every lower epoch of a producer.
type fence struct {
	epoch uint64
	atMs  int64
}

// fenceMark is a fence in the order of age. It is void if the fence is newer.
type fenceMark struct {
	atMs int64
	name string
}

func (m *Machine) setFence(body []byte) error {
	d := decoder{b: body}
	name, epoch := string(d.bytes()), d.uvarint()
	if d.err != nil {
		return fmt.Errorf("decode fence: %w", d.err)
	}
	if m.fences[name].epoch >= epoch {
		return nil
	}
	m.keepFence(name, fence{epoch, m.logTimeMs})
	b := binary.AppendUvarint(m.vbuf[:0], epoch)
	m.vbuf = binary.AppendUvarint(b, uint64(m.logTimeMs))
	m.eff.set(m.keyFence(name), m.vbuf)
	return nil
}

// keepFence puts the fence's mark where a restart would: log time alone is no order.
func (m *Machine) keepFence(name string, f fence) {
	m.fences[name] = f
	mark := fenceMark{f.atMs, name}
	at, _ := slices.BinarySearchFunc(m.fenceAge, mark, func(a, b fenceMark) int {
		if a.atMs != b.atMs {
			return int(min(max(a.atMs-b.atMs, -1), 1))
		}
		return strings.Compare(a.name, b.name)
	})
	m.fenceAge = slices.Insert(m.fenceAge, at, mark)
}

// dropFences forgets at most limit fences that are older than any producer record
// they could meet.
func (m *Machine) dropFences(limit int) {
	n := 0
	for ; n < len(m.fenceAge) && limit > 0; n++ {
		mark := m.fenceAge[n]
		if m.fences[mark.name].atMs != mark.atMs {
			continue
		}
		if !m.idle(mark.atMs, m.logTimeMs) {
			break
		}
		m.eff.delete(m.keyFence(mark.name))
		delete(m.fences, mark.name)
		m.eff.Results.Worked++
		limit--
	}
	m.fenceAge = slices.Delete(m.fenceAge, 0, n)
}

// idle says whether what was last seen then is forgotten now.
func (m *Machine) idle(seenMs, nowMs int64) bool {
	return seenMs+int64(m.cfg.ProducerIdleMs) <= nowMs
}
