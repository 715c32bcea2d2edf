package cluster

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/storage"
)

// logWriter is the one that writes the log. It takes all that waits, of all
// groups, into one batch and one sync; what comes meanwhile is the next batch.
type logWriter struct {
	engine *Engine
	items  queue[logItem]
	// busy is when the write under way began, in nanoseconds of the engine's
	// clock plus one; 0 while there is none.
	busy atomic.Int64
	// waiting holds back what is to be written of groups that have an install
	// under way.
	waiting map[*group][]logItem
}

func newLogWriter(e *Engine) *logWriter {
	return &logWriter{engine: e, items: newQueue[logItem](), waiting: map[*group][]logItem{}}
}

// order has stage add to a batch, and done be called once that is synced.
func (w *logWriter) order(stage func(*storage.LogBatch), done func()) {
	w.items.push(logItem{stage: stage, done: done})
}

func (w *logWriter) loop() {
	for w.items.wait(w.engine.quit) {
		all := w.items.take()
		for rest := all; len(rest) > 0; {
			if w.apart(&rest[0]) {
				instead := w.divert(&rest[0])
				if rest = rest[1:]; len(instead) > 0 {
					rest = append(instead, rest...)
				}
				continue
			}
			n, err := w.write(rest)
			if err != nil {
				w.engine.fatal(err)
				return
			}
			w.report(rest[:n])
			rest = rest[n:]
		}
		w.items.recycle(all)
	}
}

// write puts as many items as fit into one batch, at least one, and returns
// how many are on disk.
func (w *logWriter) write(items []logItem) (int, error) {
	batch := w.engine.cfg.Log.NewBatch()
	sync, some, n, entries := false, false, 0, 0
	for ; n < len(items) && (n == 0 || batch.Len() < w.engine.cfg.BatchBytes); n++ {
		it := &items[n]
		if n > 0 && w.apart(it) {
			break
		}
		if it.job == nil {
			if it.stage != nil {
				it.stage(batch)
				sync = true
			} else {
				batch.Truncate(it.group.id, it.truncate)
			}
			some = true
			continue
		}
		w.stage(batch, it)
		sync = sync || it.job.Sync
		some = some || !it.job.Empty()
		entries += len(it.job.Entries)
	}
	if !some {
		// Nothing to write: these only wait for what went before.
		batch.Discard()
		return n, nil
	}
	return n, w.commit(batch, sync, entries)
}

func (w *logWriter) stage(batch *storage.LogBatch, it *logItem) {
	if it.job.StaleFrom != 0 {
		batch.DeleteFrom(it.group.id, it.job.StaleFrom, it.job.StaleTo)
	}
	batch.Append(it.group.id, it.job.Entries)
	if it.job.HardState != nil {
		batch.SetHardState(it.group.id, *it.job.HardState)
	}
}

func (w *logWriter) commit(batch *storage.LogBatch, sync bool, entries int) error {
	m := w.engine.metrics
	m.logBatchBytes.Observe(float64(batch.Len()))
	m.logEntries.Add(float64(entries))
	begin := w.engine.now()
	w.busy.Store(int64(begin) + 1)
	err := batch.Commit(sync)
	w.busy.Store(0)
	if err != nil {
		return fmt.Errorf("write raft log: %w", err)
	}
	if sync {
		m.logSync.Observe((w.engine.now() - begin).Seconds())
	}
	return nil
}

// report tells the cores what is done, in the order in which it was asked for.
func (w *logWriter) report(items []logItem) {
	for i := range items {
		if job := items[i].job; job != nil {
			items[i].group.post(func(in *input) { in.appended = append(in.appended, job) })
		}
		if done := items[i].done; done != nil {
			done()
		}
	}
}

// stuck returns how long the write under way has taken so far.
func (w *logWriter) stuck() time.Duration {
	since := w.busy.Load()
	if since == 0 {
		return 0
	}
	return w.engine.now() - time.Duration(since-1)
}
