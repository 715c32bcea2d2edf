package storage

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// pebbleKV is a KV on Pebble.
type pebbleKV struct {
	name    string // for errors
	db      *pebble.DB
	cache   *pebble.Cache
	faults  *faults
	witness *witness
	last    atomic.Uint64 // number of the last commit
	closed  atomic.Bool
	free    freeList[pebbleBatch] // Pebble's own pool drops buffers over 1 MiB

	dir     string
	readFS  FS
	reading sstable.ReaderOptions

	installing sync.Mutex // one range is replaced at a time
	stages     pebbleStages
	stageFile  int // the most bytes of a staged table
	tables     sstable.WriterOptions
}

func (p *pebbleKV) Get(key []byte) ([]byte, io.Closer, error) {
	return p.get(p.db, key)
}

func (p *pebbleKV) get(r pebble.Reader, key []byte) ([]byte, io.Closer, error) {
	v, closer, err := r.Get(key)
	if err == nil {
		if err = p.faults.get(); err != nil {
			_ = closer.Close()
			return nil, nil, err
		}
		return v, closer, nil
	}
	return nil, nil, p.readErr(key, err)
}

func (p *pebbleKV) open(dir string, o *pebble.Options) error {
	p.dir, p.readFS, p.reading = dir, o.FS, o.MakeReaderOptions()
	err := p.stages.load(o.FS, dir)
	if err == nil {
		p.db, err = pebble.Open(dir, o)
	}
	if err != nil && (pebble.IsCorruptionError(err) || optionsDamaged(err)) {
		err = &CorruptError{Store: p.name, What: "database", Err: err}
	}
	if err != nil {
		return p.faults.or(err)
	}
	p.stageFile, p.tables = stageFileBytes, o.MakeWriterOptions(lowestLevel, p.db.TableFormat())
	if err = p.faults.or(p.testify(dir, o)); err != nil {
		_ = p.witness.close()
		_ = p.db.Close() // the first error says more
	}
	return err
}

// optionsDamaged knows the words for names in Pebble's file of options that differ from ours, which
// never changed.
func optionsDamaged(err error) bool { return strings.Contains(err.Error(), "name from file") }

// testify asks the witness whether the database is as long as it was.
func (p *pebbleKV) testify(dir string, o *pebble.Options) error {
	w, err := openWitness(o.FS, dir)
	if err != nil {
		return err
	}
	p.witness = w
	next, err := p.next()
	if err != nil {
		return err
	}
	return w.check(p.name, next)
}

// next learns which number comes next by writing something: the deletion of a key that nobody has.
func (p *pebbleKV) next() (uint64, error) {
	b := p.db.NewBatch()
	defer func() { _ = b.Close() }()                 // committed or of no use
	if err := b.Delete([]byte{0}, nil); err != nil { // shorter than any key; Pebble can't flush an empty one
		return 0, err
	}
	if err := p.db.Apply(b, pebble.NoSync); err != nil {
		return 0, err
	}
	return uint64(b.SeqNum()), nil
}

// readErr turns Pebble's errors into ours. Damage takes the key that was read.
func (p *pebbleKV) readErr(key []byte, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return ErrNotFound
	case pebble.IsCorruptionError(err), errors.Is(err, ErrCorrupt):
		return &CorruptError{Store: p.name, Key: append([]byte(nil), key...), Err: err}
	}
	return err
}

func (p *pebbleKV) Iter(lower, upper []byte) (KVIter, error) {
	return p.iter(p.db, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

func (p *pebbleKV) iter(r pebble.Reader, o *pebble.IterOptions) (KVIter, error) {
	it, err := r.NewIter(o)
	if err != nil {
		return nil, p.readErr(o.LowerBound, err)
	}
	return &pebbleIter{Iterator: it, kv: p, near: o.LowerBound}, nil
}

// pebbleIter adds to Pebble's cursor what its errors lack: where it was.
type pebbleIter struct {
	*pebble.Iterator
	kv   *pebbleKV
	near []byte // the last key known to be good, or what was sought
	buf  []byte
}

func (i *pebbleIter) Next() bool {
	i.buf = append(i.buf[:0], i.Key()...)
	i.near = i.buf
	return i.Iterator.Next()
}

func (i *pebbleIter) SeekGE(key []byte) bool {
	i.near = key
	return i.Iterator.SeekGE(key)
}

func (i *pebbleIter) ValueAndErr() ([]byte, error) {
	v, err := i.Iterator.ValueAndErr()
	if err == nil {
		err = i.kv.faults.get()
	}
	return v, i.kv.readErr(i.Key(), err)
}

func (i *pebbleIter) Error() error { return i.kv.readErr(i.near, i.Iterator.Error()) }

func (i *pebbleIter) Close() error { return i.kv.readErr(i.near, i.Iterator.Close()) }

func (p *pebbleKV) Flush() error {
	if err := p.faults.get(); err != nil {
		return err
	}
	last := p.last.Load()
	if err := p.db.Flush(); err != nil {
		return p.faults.set(fmt.Errorf("flush: %w", err))
	}
	p.witness.sync(last)
	return p.faults.get()
}

// committed notes the number of a commit that a later flush makes durable.
func (p *pebbleKV) committed(seq uint64) {
	for {
		old := p.last.Load()
		if seq <= old || p.last.CompareAndSwap(old, seq) {
			return
		}
	}
}

// DiskBytes is zero once the store is closed: a scrape of the metrics may come late.
func (p *pebbleKV) DiskBytes() int64 {
	if p.closed.Load() {
		return 0
	}
	return int64(p.db.Metrics().DiskSpaceUsage())
}

func (p *pebbleKV) Fault() error { return p.faults.get() }

// Close ends the database's work, also after a fault; it then returns the fault.
func (p *pebbleKV) Close() error {
	if p.closed.Swap(true) {
		return ErrClosed
	}
	p.faults.watch.close()
	p.stages.stop()
	p.free.close()
	defer p.cache.Unref()
	return p.faults.or(errors.Join(p.db.Close(), p.witness.close()))
}
