package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// cut widens a range that is about to be cut out of all tables until all that lies next to
// it can be read. Pebble (v2.1.7, determineRightTableBounds and determineLeftTableBounds)
// looks for the first key behind a cut and the last one in front of it, and takes a block
// that it cannot read for the end of the table: all that the table has on that side would
// be gone, other groups' records too. Whoever owns the neighbouring key is damaged in that
// case, so that its range goes along; it is to be replaced itself. A neighbour that is not
// known to be damaged is not touched: then there is no cut, and the error says so.
func (p *pebbleKV) cut(ctx context.Context, lower, upper []byte) (l, u []byte, err error) {
	for l, u = lower, upper; ; {
		t, left, err := p.edges(ctx, l, u)
		if err == nil {
			return l, u, nil
		}
		if t == nil {
			return nil, nil, err
		}
		g, ok := p.faults.watch.neighbour(ctx, *t, l, u, left)
		if !ok {
			return nil, nil, &CorruptError{
				Store: p.name, Key: bytes.Clone(lower), Err: err,
				What: fmt.Sprintf("table %s next to the range to be replaced, where another group's records may be", t.path),
			}
		}
		if left {
			l = g.Lower
		} else {
			u = g.Upper
		}
	}
}

// edges reads, of all tables that a cut would leave something of, what lies next to it.
// With an error it says which table cannot be read there, and on which side; no table if
// it is another error.
func (p *pebbleKV) edges(ctx context.Context, lower, upper []byte) (t *damagedTable, left bool, err error) {
	for range edgeTries {
		t, left, err = p.edgesNow(ctx, lower, upper)
		if !errors.Is(err, os.ErrNotExist) {
			break
		} // else a compaction took a table away: others have its records
	}
	return t, left, err
}

// edgeTries is how often the tables are listed when one of them is gone before it is read.
const edgeTries = 16

func (p *pebbleKV) edgesNow(ctx context.Context, lower, upper []byte) (t *damagedTable, left bool, err error) {
	tables, err := liveTables(p.db, p.readFS, p.dir)
	if err != nil {
		return nil, false, err
	}
	for i := range tables {
		t := &tables[i]
		inFront, behind := bytes.Compare(t.lower, lower) < 0, bytes.Compare(t.upper, upper) >= 0
		if bytes.Compare(t.lower, upper) >= 0 || bytes.Compare(t.upper, lower) < 0 || !inFront && !behind {
			continue
		}
		left, err := p.edgesOf(ctx, t.path, lower, upper, inFront, behind)
		switch {
		case err != nil && !pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt):
			return nil, false, err
		case err != nil:
			t.err = err
			return t, left, err
		}
	}
	return nil, false, nil
}

func (p *pebbleKV) edgesOf(ctx context.Context, path string, lower, upper []byte, inFront, behind bool) (left bool, err error) {
	readable, err := openTable(p.readFS, path)
	if err != nil {
		return false, err
	}
	r, err := sstable.NewReader(ctx, readable, p.reading)
	if err != nil {
		return false, errors.Join(err, readable.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if behind && it.SeekGE(upper, 0) == nil && it.Error() != nil {
		return false, it.Error()
	}
	if inFront && it.SeekLT(lower, 0) == nil && it.Error() != nil {
		return true, it.Error()
	}
	return false, nil
}

// neighbour is the group whose range begins where one ends, or ends where it begins, if it
// is known to be damaged, or is found to be in the table.
func (w *watcher) neighbour(ctx context.Context, t damagedTable, lower, upper []byte, left bool) (g GroupRange, ok bool) {
	if w == nil {
		return g, false
	}
	all := w.groups()
	i := slices.IndexFunc(all, func(g GroupRange) bool {
		return left && bytes.Equal(g.Upper, lower) || !left && bytes.Equal(g.Lower, upper)
	})
	if i < 0 {
		return g, false
	}
	g = all[i]
	w.mu.Lock()
	known := w.reported[g.Group]
	w.mu.Unlock()
	if known {
		return g, true
	}
	hurt, err := w.probe(ctx, w.reading, t)
	if err == nil && slices.Contains(hurt, g.Group) {
		w.report(g.Group, t) // its replica stops before anything of it goes
		return g, true
	}
	return g, false
}

// excise cuts a range out of all tables.
func (p *pebbleKV) excise(ctx context.Context, lower, upper []byte) error {
	return p.faults.or(p.readErr(lower, p.db.Excise(ctx, pebble.KeyRange{Start: lower, End: upper})))
}
