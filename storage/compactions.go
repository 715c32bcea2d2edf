package storage

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// compactions lets as many compactions run as Pebble wants, as its own scheduler does, but none
// for a while after one has met damage. Pebble begins again at once, on the same tables, for ever:
// until the damaged replica is replaced that would take a core away from the sound ones.
type compactions struct {
	db    pebble.DBForCompaction
	poke  chan struct{}
	stop  chan struct{}
	ended chan struct{}
	// refused says that something could not begin and may wait still.
	refused atomic.Bool

	mu       sync.Mutex // after the database's own; no call to it but for what it allows
	running  int
	closed   bool
	failures int
	until    time.Time // no compaction begins before
}

const (
	compactionTick     = 100 * time.Millisecond
	minCompactionPause = time.Second
	maxCompactionPause = time.Minute
)

func newCompactions() *compactions {
	return &compactions{poke: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
}

// failed begins a pause, twice as long as the last one.
func (c *compactions) failed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := min(minCompactionPause<<min(c.failures, 10), maxCompactionPause)
	c.failures++
	c.until = time.Now().Add(pause)
}

// worked ends the pauses.
func (c *compactions) worked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.until = 0, time.Time{}
}

// allowed is how many more may begin now. The mutex is held.
func (c *compactions) allowed() int {
	if c.closed || time.Now().Before(c.until) {
		return 0
	}
	return c.db.GetAllowedWithoutPermission() - c.running
}

// take begins one, if one may.
func (c *compactions) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.allowed() <= 0 {
		return false
	}
	c.running++
	return true
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) {
	c.db = db
	go c.grant()
}

// Unregister implements pebble.CompactionScheduler.
func (c *compactions) Unregister() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	close(c.stop)
	<-c.ended
}

// TrySchedule implements pebble.CompactionScheduler.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if c.take() {
		return true, c
	}
	c.refused.Store(true)
	c.UpdateGetAllowedWithoutPermission()
	return false, nil
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (c *compactions) UpdateGetAllowedWithoutPermission() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// grant begins what could not begin when it was asked for. As long as something may
// wait it looks again and again: nobody tells when more may run, or a pause ends.
func (c *compactions) grant() {
	defer close(c.ended)
	again := time.NewTimer(compactionTick)
	defer again.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-again.C:
		case <-c.poke:
		}
		for c.begin() {
			continue
		}
		if c.refused.Load() {
			again.Reset(compactionTick)
		}
	}
}

func (c *compactions) begin() bool {
	if !c.take() {
		return false
	}
	c.refused.Store(false) // before the look: who is refused from now on is not forgotten
	if waiting, _ := c.db.GetWaitingCompaction(); waiting {
		if c.db.Schedule(c) {
			return true
		}
		c.refused.Store(true)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	return false
}

// Started implements pebble.CompactionGrantHandle.
func (c *compactions) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (c *compactions) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (c *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (c *compactions) Done() {
	c.mu.Lock()
	c.running--
	c.mu.Unlock()
	c.UpdateGetAllowedWithoutPermission()
}
