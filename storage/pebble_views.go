package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

func (p *pebbleKV) Snapshot() KVSnapshot { return &pebbleSnapshot{kv: p, snap: p.db.NewSnapshot()} }

type pebbleSnapshot struct {
	kv   *pebbleKV
	snap *pebble.Snapshot
}

func (s *pebbleSnapshot) Get(key []byte) ([]byte, io.Closer, error) { return s.kv.get(s.snap, key) }

func (s *pebbleSnapshot) Iter(lower, upper []byte) (KVIter, error) {
	return s.kv.iter(s.snap, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

func (s *pebbleSnapshot) Close() error { return s.snap.Close() }

// SnapshotRange holds sequence numbers only until the memtables with the range are flushed, and
// from then on files alone. A replacement of the range waits for that.
func (p *pebbleKV) SnapshotRange(lower, upper []byte) KVSnapshot {
	s := &rangeSnapshot{kv: p, lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
	s.snap = p.db.NewEventuallyFileOnlySnapshot([]pebble.KeyRange{{Start: s.lower, End: s.upper}})
	return s
}

type rangeSnapshot struct {
	kv           *pebbleKV
	lower, upper []byte
	snap         *pebble.EventuallyFileOnlySnapshot
}

func (s *rangeSnapshot) Get(key []byte) ([]byte, io.Closer, error) {
	return getByIter(s, key)
}

// Iter takes open bounds for the range's own.
func (s *rangeSnapshot) Iter(lower, upper []byte) (KVIter, error) {
	lower, upper, err := within(lower, upper, s.lower, s.upper)
	if err != nil {
		return nil, err
	}
	return s.kv.iter(s.snap, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

func (s *rangeSnapshot) Close() error { return s.snap.Close() }

// within puts a range's bounds in the place of open ones, and refuses what is beyond them.
func within(lower, upper, least, most []byte) ([]byte, []byte, error) {
	if lower == nil {
		lower = least
	}
	if upper == nil {
		upper = most
	}
	if bytes.Compare(lower, least) < 0 || bytes.Compare(upper, most) > 0 {
		return nil, nil, fmt.Errorf("%w: keys %x to %x in a snapshot of %x to %x", ErrRange, lower, upper, least, most)
	}
	return lower, upper, nil
}

// getByIter is for views that have a cursor only.
func getByIter(r KVReader, key []byte) ([]byte, io.Closer, error) {
	it, err := r.Iter(key, append(append([]byte(nil), key...), 0))
	if err != nil {
		return nil, nil, err
	}
	if !it.First() {
		return nil, nil, firstErr(it.Error(), it.Close(), ErrNotFound)
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return nil, nil, errors.Join(err, it.Close())
	}
	return v, it, nil
}

// Durable reads sstables only: what Pebble lists in a synced manifest. One cursor is opened
// at the call and cloned for each read, so that all reads see the same version.
func (p *pebbleKV) Durable() (KVSnapshot, error) {
	it, err := p.db.NewIter(&pebble.IterOptions{OnlyReadGuaranteedDurable: true})
	if err != nil {
		return nil, p.readErr(nil, err)
	}
	return &durableView{kv: p, it: it}, nil
}

type durableView struct {
	kv *pebbleKV
	it *pebble.Iterator
}

func (d *durableView) Get(key []byte) ([]byte, io.Closer, error) { return getByIter(d, key) }

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *durableView) Iter(lower, upper []byte) (KVIter, error) {
	o := &pebble.IterOptions{LowerBound: lower, UpperBound: upper, OnlyReadGuaranteedDurable: true}
	it, err := d.it.Clone(pebble.CloneOptions{IterOptions: o})
	if err != nil {
		return nil, d.kv.readErr(lower, err)
	}
	if err := d.kv.faults.get(); err != nil {
		return nil, errors.Join(err, it.Close())
	}
	return &pebbleIter{Iterator: it, kv: d.kv, near: lower}, nil
}

func (d *durableView) Close() error { return d.it.Close() }
