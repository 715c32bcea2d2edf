package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// Damage says that records of a group cannot be read. Its replica must not go on: whatever it
// answers may lack something. State.Install of a fresh snapshot cures it, and cuts the damage
// out; so does one of an empty stage, where the replica is given up.
type Damage struct {
	Group GroupID
	Err   error // ErrCorrupt, with the table
}

// GroupRange is where a group's keys lie: in [Lower, Upper).
type GroupRange struct {
	Group        GroupID
	Lower, Upper []byte
}

// watcher finds out whose records a damaged table holds. Pebble tells the bounds of the whole
// table only, which in the upper levels are those of all groups: so the table is read again,
// group by group. What cannot be put down to a group is a fault if Pebble's own work meets it.
type watcher struct {
	store   string
	fs      FS
	dir     string
	faults  *faults
	groups  func() []GroupRange
	damaged func(Damage)

	compactions *compactions
	reading     sstable.ReaderOptions

	events chan damagedTable
	stop   context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	probed   map[string]bool // tables whose damage was put down to groups
	reported map[GroupID]bool
}

// damagedTable is what Pebble says. Without a path it is some table.
type damagedTable struct {
	path         string
	lower, upper []byte // both inclusive
	background   bool   // a compaction met it, and will again
	err          error
}

const damagePause = 50 * time.Millisecond

// maxDamageEvents is how many wait to be looked at. What is dropped comes again.
const maxDamageEvents = 64

func newWatcher(cfg *StateConfig, dir string, f *faults) *watcher {
	return &watcher{
		store: f.name, dir: dir, faults: f, groups: cfg.Groups, damaged: cfg.Damaged,
		compactions: newCompactions(),
		events:      make(chan damagedTable, maxDamageEvents), ended: make(chan struct{}),
		probed: map[string]bool{}, reported: map[GroupID]bool{},
	}
}

// start begins to look at events, also at those that came before.
func (w *watcher) start(db *pebble.DB, fs FS, o sstable.ReaderOptions) {
	if w == nil {
		return
	}
	w.fs, w.reading = fs, o
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	go func() {
		defer close(w.ended)
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-w.events:
				w.look(ctx, db, o, e)
			}
		}
	}()
}

// close waits for the end of what is being looked at.
func (w *watcher) close() {
	if w != nil && w.stop != nil {
		w.stop()
		<-w.ended
	}
}

// saw takes a damage that a read met, of the store's owner or of Pebble.
func (w *watcher) saw(info *pebble.DataCorruptionInfo, background bool, err error) {
	e := damagedTable{background: background, err: err}
	if info != nil {
		if !background && w.known(info.Path) {
			// Pebble's statistics of tables are tried again at once, and for ever. They come here
			// with no lock held; a reader that is slowed down too has nothing to lose any more.
			time.Sleep(damagePause)
			return
		}
		e.path, e.lower, e.upper = info.Path, bytes.Clone(info.Bounds.Start), bytes.Clone(info.Bounds.End.Key)
	}
	select {
	case w.events <- e:
	default:
	}
}

// healed forgets what is known of a group whose range was replaced.
func (w *watcher) healed(g GroupID) {
	if w == nil {
		return
	}
	w.compactions.worked()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.reported, g)
	clear(w.probed)
}

func (w *watcher) known(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probed[path]
}

func (w *watcher) look(ctx context.Context, db *pebble.DB, o sstable.ReaderOptions, e damagedTable) {
	tables := []damagedTable{e}
	if e.path == "" {
		tables = w.tables(db, e)
	}
	found := false
	for _, t := range tables {
		if w.known(t.path) {
			found = true
			continue
		}
		groups, err := w.probe(ctx, o, t)
		if ctx.Err() != nil {
			return
		}
		found = found || len(groups) > 0 || errors.Is(err, os.ErrNotExist)
		for _, g := range groups {
			w.report(g, t)
		}
	}
	if !found && e.background {
		_ = w.faults.set(&CorruptError{Store: w.store, What: "a table", Err: e.err})
	}
}

// tables are all that there are.
func (w *watcher) tables(db *pebble.DB, e damagedTable) []damagedTable {
	all, err := liveTables(db, w.fs, w.dir)
	if err != nil {
		return nil
	}
	for i := range all {
		all[i].background, all[i].err = e.background, e.err
	}
	return all
}

// liveTables are the tables of a database by now. A compaction may take any of them away.
func liveTables(db *pebble.DB, fs FS, dir string) ([]damagedTable, error) {
	levels, err := db.SSTables()
	if err != nil {
		return nil, err
	}
	var all []damagedTable
	for _, level := range levels {
		for _, t := range level {
			all = append(all, damagedTable{
				path:  fs.PathJoin(dir, t.BackingSSTNum.String()+".sst"),
				lower: bytes.Clone(t.Smallest.UserKey), upper: bytes.Clone(t.Largest.UserKey),
			})
		}
	}
	return all, nil
}

// openTable opens a table's file past the database and its caches, for a reader that then owns it.
func openTable(fs FS, path string) (objstorage.Readable, error) {
	file, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return readable, nil
}

func (w *watcher) report(g GroupID, t damagedTable) {
	w.mu.Lock()
	again := w.reported[g]
	w.reported[g], w.probed[t.path] = true, true
	w.mu.Unlock()
	if again {
		return
	}
	err := &CorruptError{Store: w.store, Key: t.lower, What: fmt.Sprintf("group %d, in table %s", g, t.path), Err: t.err}
	w.faults.log.Error("a group's state is damaged", "store", w.store, "group", g, "table", t.path, "error", t.err)
	w.damaged(Damage{Group: g, Err: err})
}

// probe reads a table and returns the groups whose records are damaged; none if the table is
// whole, or if the damage is not in the records of some of its groups alone.
func (w *watcher) probe(ctx context.Context, o sstable.ReaderOptions, t damagedTable) ([]GroupID, error) {
	within := w.overlapping(t)
	readable, err := openTable(w.fs, t.path)
	if err != nil {
		return nil, err
	}
	r, err := sstable.NewReader(ctx, readable, o)
	if err != nil {
		return onlyGroup(within, t), errors.Join(err, readable.Close())
	}
	defer func() { _ = r.Close() }()
	var hurt []GroupID
	for _, g := range within {
		whole, err := readTable(ctx, r, g.Lower, g.Upper)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if whole && err != nil {
			return onlyGroup(within, t), err
		}
		if err != nil {
			hurt = append(hurt, g.Group)
		}
	}
	if len(hurt) == 0 {
		if err := r.ValidateBlockChecksums(); err != nil {
			return onlyGroup(within, t), err
		}
	}
	return hurt, nil
}

func (w *watcher) overlapping(t damagedTable) []GroupRange {
	var within []GroupRange
	for _, g := range w.groups() {
		if bytes.Compare(g.Lower, t.upper) <= 0 && bytes.Compare(t.lower, g.Upper) < 0 {
			within = append(within, g)
		}
	}
	return within
}

// onlyGroup is the one group that has the whole table, if there is one. If there are others,
// the table can't be cut: their records are lost with it.
func onlyGroup(within []GroupRange, t damagedTable) []GroupID {
	if len(within) == 1 && bytes.Compare(within[0].Lower, t.lower) <= 0 && bytes.Compare(t.upper, within[0].Upper) < 0 {
		return []GroupID{within[0].Group}
	}
	return nil
}

// readTable reads all of a range, past the block cache. whole: the table cannot be read at all.
func readTable(ctx context.Context, r *sstable.Reader, lower, upper []byte) (whole bool, err error) {
	it, err := r.NewIter(sstable.NoTransforms, lower, upper, sstable.AssertNoBlobHandles)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for kv := it.SeekGE(lower, 0); kv != nil; kv = it.Next() {
		if _, _, err := kv.Value(nil); err != nil {
			return false, err
		}
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	return false, it.Error()
}
