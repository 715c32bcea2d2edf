package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/waystation/waystation/internal/invariant"
)

// LogBatch gathers writes of many groups that become durable together, in the order of the
// calls. A mistake in a call is kept and returned by Commit. One goroutine at a time.
type LogBatch struct {
	log     *Log
	kv      KVBatch
	touched map[GroupID]*draft
	err     error
}

// draft is a group as it will be after the batch.
type draft struct {
	bounds
	from     uint64   // the first index that this batch appends; 0 if none
	appended []placed // the entries from `from` on
	cut      bool     // truncated in this batch
	reset    bool     // nothing of what the group had is left
	dropped  bool     // its damage neither
}

// placed is an entry of a batch: it cannot be read yet, so its place is kept.
type placed struct {
	start, term uint64
}

// NewBatch returns an empty batch. It must end in Commit or Discard.
func (l *Log) NewBatch() *LogBatch {
	b := l.batches.Get().(*LogBatch)
	b.kv = l.kv.NewBatch(0)
	return b
}

// Append adds entries, copying their data. They must follow each other; if the first one is
// not behind the group's last, it replaces that one and everything after it, as raft wants it.
func (b *LogBatch) Append(g GroupID, entries []Entry) {
	if len(entries) == 0 || b.err != nil {
		return
	}
	d := b.draft(g)
	if first := entries[0].Index; first <= d.last.Index {
		last := d.last.Index
		if invariant.Broken(invariant.StaleTail) {
			last = entries[len(entries)-1].Index
		}
		b.cutTail(g, d, first, last)
	}
	for i := range entries {
		if e := &entries[i]; e.Index != d.last.Index+1 {
			b.fail(fmt.Errorf("append group %d index %d behind %d: %w", g, e.Index, d.last.Index, ErrGap))
			return
		}
		b.put(g, d, &entries[i])
	}
}

func (b *LogBatch) put(g GroupID, d *draft, e *Entry) {
	c := chunk{kind: e.Type, size: uint32(len(e.Data)), term: e.Term, start: d.end}
	rest := e.Data
	for n := range chunks(len(e.Data)) {
		part := rest[:min(chunkData, len(rest))]
		rest = rest[len(part):]
		key, value := b.kv.Set(entryKeySize, chunkHeader+len(part))
		putEntryKey(key, g, e.Index, uint32(n))
		putChunkHeader(value, &c)
		copy(value[chunkHeader:], part)
	}
	if d.from == 0 {
		d.from = e.Index
	}
	d.appended = append(d.appended, placed{start: d.end, term: e.Term})
	d.last = Position{Index: e.Index, Term: e.Term}
	d.end += storedBytes(len(e.Data))
}

// SetHardState replaces the group's hard state.
func (b *LogBatch) SetHardState(g GroupID, h HardState) {
	key, value := b.kv.Set(groupKeySize, hardStateSize)
	putGroupKey(key, g, fieldHardState)
	putHardState(value, h)
	b.draft(g)
}

// DeleteFrom deletes the stale tail [index, last]. Append replaces what it overlaps by itself,
// so this is for a tail without a successor; a last below the group's own last is raised to it.
func (b *LogBatch) DeleteFrom(g GroupID, index, last uint64) {
	if b.err != nil {
		return
	}
	d := b.draft(g)
	if !invariant.Broken(invariant.StaleTail) {
		last = max(last, d.last.Index)
	}
	if index <= last {
		b.cutTail(g, d, index, last)
	}
}

func (b *LogBatch) cutTail(g GroupID, d *draft, index, last uint64) {
	if index <= d.truncated.Index {
		b.fail(fmt.Errorf("delete group %d from %d: %w", g, index, ErrCompacted))
		return
	}
	b.kv.DeleteRange(entryKey(g, index, 0), entryKey(g, last+1, 0))
	if index > d.last.Index {
		return
	}
	prev, err := b.position(g, d, index-1)
	if err == nil {
		d.end, err = b.startOf(g, d, index)
	}
	if err != nil {
		b.fail(fmt.Errorf("delete group %d from %d: %w", g, index, err))
		return
	}
	d.last = prev
	if d.from != 0 && index > d.from {
		d.appended = d.appended[:index-d.from]
	} else {
		d.from, d.appended = 0, d.appended[:0]
	}
}

// Truncate deletes all entries up to and with upTo. Beyond the last entry it deletes all and
// lets the log go on behind upTo, as a snapshot wants it. One that is behind the group's
// truncation already does nothing.
func (b *LogBatch) Truncate(g GroupID, upTo Position) {
	if b.err != nil {
		return
	}
	d := b.draft(g)
	if upTo.Index <= d.truncated.Index {
		return
	}
	if err := b.advance(g, d, upTo); err != nil {
		b.fail(fmt.Errorf("truncate group %d to %d: %w", g, upTo.Index, err))
		return
	}
	b.kv.DeleteRange(entryKey(g, 0, 0), entryKey(g, upTo.Index+1, 0))
	b.putTruncated(g, upTo)
	d.cut = true
}

func (b *LogBatch) putTruncated(g GroupID, upTo Position) {
	key, value := b.kv.Set(groupKeySize, positionSize)
	putGroupKey(key, g, fieldTruncated)
	putPosition(value, upTo)
}

func (b *LogBatch) advance(g GroupID, d *draft, upTo Position) error {
	if upTo.Index >= d.last.Index {
		d.truncated, d.last, d.start = upTo, upTo, d.end
		d.from, d.appended = 0, d.appended[:0]
		return nil
	}
	start, err := b.startOf(g, d, upTo.Index+1)
	if err == nil {
		d.truncated, d.start = upTo, start
	}
	return err
}

// PutReplica writes a replica record. Its truncation takes effect if it is ahead of the
// group's own, as on creation.
func (b *LogBatch) PutReplica(m ReplicaMeta) {
	key, value := b.kv.Set(groupKeySize, replicaSize)
	putGroupKey(key, m.Group, fieldReplica)
	binary.BigEndian.PutUint64(value, uint64(m.Replica))
	value[8] = m.State
	b.Truncate(m.Group, m.Truncated)
}

// PutNode stores a value of the node itself: its identity, its boot counter.
func (b *LogBatch) PutNode(key, value []byte) {
	k, v := b.kv.Set(1+len(key), len(value))
	k[0] = prefixNode
	copy(k[1:], key)
	copy(v, value)
}

// Len is the size of the batch in bytes.
func (b *LogBatch) Len() int { return b.kv.Len() }

// Discard gives the batch back uncommitted.
func (b *LogBatch) Discard() {
	b.kv.Discard()
	b.release()
}

func (b *LogBatch) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}
