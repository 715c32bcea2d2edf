package storage

import "fmt"

// Commit writes the batch as one; with sync it blocks until the batch, and all that was
// committed before it, is durable. An empty batch does nothing, and syncs nothing. The batch
// must not be used afterwards. An error that is ErrSync is final: the caller must end the
// process. Any other error is a mistake in how the batch was built, and nothing was written.
func (b *LogBatch) Commit(sync bool) error {
	l := b.log
	defer b.release()
	if b.err != nil {
		b.kv.Discard()
		return fmt.Errorf("commit log batch: %w", b.err)
	}
	b.publishCuts()
	if err := b.kv.Commit(sync); err != nil {
		return fmt.Errorf("commit log batch: %w", err)
	}
	for g, d := range b.touched {
		if d.dropped {
			l.heal(g)
		}
		if published := d.bounds; published != *l.bounds(g) {
			l.publish(g, &published)
		}
	}
	return nil
}

// publishCuts raises the truncation before the entries go: a reader that finds none then
// learns ErrCompacted, and never that a record is missing.
func (b *LogBatch) publishCuts() {
	for g, d := range b.touched {
		old := b.log.bounds(g)
		to := d.truncated
		if d.reset && old.last.Index > to.Index {
			to = old.last // all goes; where the log goes on is published after the commit
		}
		if !d.cut && !d.reset || to.Index <= old.truncated.Index {
			continue
		}
		raised := *old
		raised.truncated, raised.start = to, min(d.start, old.end)
		if raised.last.Index <= to.Index {
			raised.last, raised.start = to, old.end
		}
		b.log.publish(g, &raised)
	}
}

func (b *LogBatch) release() {
	clear(b.touched)
	b.kv, b.err = nil, nil
	b.log.batches.Put(b)
}

// draft returns the group as the batch will leave it, so far.
func (b *LogBatch) draft(g GroupID) *draft {
	d := b.touched[g]
	if d == nil {
		d = &draft{bounds: *b.log.bounds(g)}
		b.touched[g] = d
	}
	return d
}

// position returns index and term of an entry as the batch sees it, or of the truncated one.
func (b *LogBatch) position(g GroupID, d *draft, index uint64) (Position, error) {
	switch {
	case index == d.truncated.Index:
		return d.truncated, nil
	case d.from != 0 && index >= d.from:
		return Position{Index: index, Term: d.appended[index-d.from].term}, nil
	}
	h, err := b.log.header(g, index)
	return Position{Index: index, Term: h.term}, err
}

// startOf returns the stored bytes before an entry as the batch sees it.
func (b *LogBatch) startOf(g GroupID, d *draft, index uint64) (uint64, error) {
	if d.from != 0 && index >= d.from {
		return d.appended[index-d.from].start, nil
	}
	h, err := b.log.header(g, index)
	return h.start, err
}
