package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// stageFileBytes bounds a table of a stage, so that a compaction never has to move more.
	stageFileBytes = 64 << 20
	// stageSlack is left for what a table holds beside its data blocks: index, filter, and the
	// block that is not cut yet.
	stageSlack = 2 << 20
	// lowestLevel is where most of a snapshot's data ends up; its options make the tables.
	lowestLevel = 6
)

// pebbleStages are the stages of all groups of a database.
type pebbleStages struct {
	mu     sync.Mutex
	fs     FS
	dir    string
	sealed map[GroupID]*sealedStage
	open   map[GroupID]*pebbleStage
}

// pebbleStage writes tables as Pebble itself does, which it then takes over as they are.
type pebbleStage struct {
	kv    *pebbleKV
	group GroupID
	dir   string

	mu    sync.Mutex // against being dropped by a later stage of the group
	done  bool
	table *sstable.Writer
	stage sealedStage
}

func (p *pebbleKV) NewStage(g GroupID) (KVStage, error) {
	if err := p.DropStage(g); err != nil {
		return nil, err
	}
	s := &p.stages
	t := &pebbleStage{kv: p, group: g, dir: s.groupDir(g)}
	if err := p.faults.or(mkdirDurable(s.fs, t.dir)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[g] = t
	return t, nil
}

func (t *pebbleStage) Add(key, value []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return ErrClosed
	}
	if err := t.room(len(key) + len(value)); err != nil {
		return t.kv.faults.or(err)
	}
	if err := t.table.Set(key, value); err != nil {
		return t.kv.faults.or(err)
	}
	if t.stage.keys == 0 {
		t.stage.first = bytes.Clone(key)
	}
	t.stage.keys++
	t.stage.last = append(t.stage.last[:0], key...)
	return t.kv.faults.get()
}

// room makes sure of a table with room for n more bytes.
func (t *pebbleStage) room(n int) error {
	if t.table != nil {
		if int(t.table.Raw().EstimatedSize())+n <= t.kv.stageFile-stageSlack {
			return nil
		}
		if err := t.closeTable(); err != nil {
			return err
		}
	}
	file, err := t.kv.stages.fs.Create(t.tablePath(len(t.stage.sizes)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	// Written back as it grows: otherwise the sync at its end holds up everybody else's.
	file = vfs.NewSyncingFile(file, vfs.SyncingFileOptions{BytesPerSync: 512 << 10})
	t.table = sstable.NewWriter(objstorageprovider.NewFileWritable(file), t.kv.tables)
	return nil
}

func (t *pebbleStage) tablePath(n int) string {
	return t.kv.stages.fs.PathJoin(t.dir, fmt.Sprintf("%06d.sst", n+1))
}

// closeTable ends a table, and syncs it.
func (t *pebbleStage) closeTable() error {
	table := t.table
	t.table = nil
	if err := table.Close(); err != nil {
		return err
	}
	m, err := table.Metadata()
	if err == nil {
		t.stage.sizes = append(t.stage.sizes, m.Size)
	}
	return err
}

// Seal writes, as the last thing, the file that tells a whole stage from what a crash left.
func (t *pebbleStage) Seal() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return ErrClosed
	}
	t.done = true
	if t.table != nil {
		if err := t.closeTable(); err != nil {
			return t.kv.faults.or(err)
		}
	}
	s := &t.kv.stages
	if err := t.kv.faults.or(writeAtomic(s.fs, t.dir, sealFile, string(t.stage.encode()))); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[t.group] != t {
		return ErrClosed
	}
	delete(s.open, t.group)
	s.sealed[t.group] = &t.stage
	return nil
}

func (t *pebbleStage) Discard() error {
	s := &t.kv.stages
	s.mu.Lock()
	mine := s.open[t.group] == t || s.sealed[t.group] == &t.stage
	s.mu.Unlock()
	if !mine {
		return ErrClosed
	}
	return t.kv.DropStage(t.group)
}

// stop ends the writing of a stage that is dropped.
func (t *pebbleStage) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	if t.table != nil {
		_ = t.table.Close() // its file is about to be removed
		t.table = nil
	}
}

// stop ends the writing of all stages that are not sealed: the next start removes them.
func (s *pebbleStages) stop() {
	s.mu.Lock()
	open := slices.Collect(maps.Values(s.open))
	clear(s.open)
	s.mu.Unlock()
	for _, t := range open {
		t.stop()
	}
}

func (p *pebbleKV) Staged(g GroupID) bool {
	p.stages.mu.Lock()
	defer p.stages.mu.Unlock()
	return p.stages.sealed[g] != nil
}

func (p *pebbleKV) DropStage(g GroupID) error {
	if err := p.faults.get(); err != nil {
		return err
	}
	s := &p.stages
	s.mu.Lock()
	open := s.open[g]
	there := open != nil || s.sealed[g] != nil
	delete(s.open, g)
	delete(s.sealed, g)
	s.mu.Unlock()
	if open != nil {
		open.stop()
	}
	if !there {
		return nil
	}
	return p.faults.or(removeStage(s.fs, s.groupDir(g)))
}

// Install first flushes what the memtables have of the range. Pebble would else put the ingest
// on top of the memtables, where it is not durable without a write-ahead log; and while it waits
// for a flush of its own, nobody's commit ends.
func (p *pebbleKV) Install(g GroupID, lower, upper []byte) error {
	p.stages.mu.Lock()
	stage := p.stages.sealed[g]
	p.stages.mu.Unlock()
	if stage == nil {
		return fmt.Errorf("no sealed stage: %w", ErrNotFound)
	}
	if stage.keys > 0 && (bytes.Compare(stage.first, lower) < 0 || bytes.Compare(stage.last, upper) >= 0) {
		return fmt.Errorf("staged keys %x to %x: %w", stage.first, stage.last, ErrRange)
	}
	p.installing.Lock()
	defer p.installing.Unlock()
	if err := p.Flush(); err != nil {
		return err
	}
	if err := p.room(lower, upper); err != nil {
		return err
	}
	if err := p.ingest(stage.paths(p.stages.fs, p.stages.groupDir(g)), lower, upper); err != nil {
		return err
	}
	if err := p.installed(stage, lower, upper); err != nil {
		return err
	}
	p.faults.watch.healed(g)
	return p.DropStage(g)
}

// room makes sure that a range can be cut out without losing more than it: where damaged
// neighbours have to go along, all of them are cut out first.
func (p *pebbleKV) room(lower, upper []byte) error {
	l, u, err := p.cut(context.Background(), lower, upper)
	if err != nil || bytes.Equal(l, lower) && bytes.Equal(u, upper) {
		return err
	}
	return p.excise(context.Background(), l, u)
}

// ingest is one edit of the manifest, synced: the range is cut out of all tables, and the new
// tables take its place. It needs FormatVirtualSSTables, for the tables that are cut.
func (p *pebbleKV) ingest(paths []string, lower, upper []byte) error {
	_, err := p.db.IngestAndExcise(context.Background(), paths, nil, nil, pebble.KeyRange{Start: lower, End: upper})
	return p.faults.or(p.readErr(lower, err))
}

// installed makes sure that the range is durable as the stage had it.
func (p *pebbleKV) installed(stage *sealedStage, lower, upper []byte) error {
	next, err := p.next()
	if err != nil {
		return p.faults.or(err)
	}
	p.committed(next)
	if err := p.Flush(); err != nil { // nothing is left of it in memory now, whatever Pebble did
		return err
	}
	view, err := p.Durable()
	if err != nil {
		return err
	}
	first, last, err := ends(view, lower, upper)
	if err = errors.Join(err, view.Close()); err != nil {
		return err
	}
	if !bytes.Equal(first, stage.first) || !bytes.Equal(last, stage.last) {
		return p.faults.set(fmt.Errorf("install: durable are %x to %x, staged were %x to %x", first, last, stage.first, stage.last))
	}
	return nil
}

// ends returns the first and the last key of a range; nil if it has none.
func ends(r KVReader, lower, upper []byte) (first, last []byte, err error) {
	it, err := r.Iter(lower, upper)
	if err != nil {
		return nil, nil, err
	}
	if it.First() {
		first = bytes.Clone(it.Key())
	}
	if it.Error() == nil && it.Last() {
		last = bytes.Clone(it.Key())
	}
	return first, last, errors.Join(it.Error(), it.Close())
}
