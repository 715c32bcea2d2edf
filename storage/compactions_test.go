package storage

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// compactor is a database that always has something to compact.
type compactor struct {
	mu      sync.Mutex
	allowed int
	begun   int
	waiting bool
}

func (c *compactor) GetAllowedWithoutPermission() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.allowed
}

func (c *compactor) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting, pebble.WaitingCompaction{}
}

func (c *compactor) Schedule(pebble.CompactionGrantHandle) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting {
		return false
	}
	c.begun++
	return true
}

func (c *compactor) want(t *testing.T, what string, begun int) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun != begun {
		t.Fatalf("%s: %d compactions began, want %d", what, c.begun, begun)
	}
}

// TestCompactionsPause runs compactions, lets them meet damage, and looks at when the next begin.
func TestCompactionsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, c := &compactor{allowed: 2, waiting: true}, newCompactions()
		c.Register(2, db)
		for range 2 {
			if ok, h := c.TrySchedule(); !ok || h == nil {
				t.Fatal("an allowed compaction is refused")
			}
		}
		if ok, _ := c.TrySchedule(); ok {
			t.Fatal("a third compaction of two")
		}
		db.want(t, "all taken", 0)
		c.Done()
		db.want(t, "one ended", 1)
		for n, pause := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			c.failed()
			c.Done()
			if ok, _ := c.TrySchedule(); ok {
				t.Fatal("a compaction begins right after damage was met")
			}
			time.Sleep(pause - 50*time.Millisecond)
			db.want(t, "in the pause", n+1)
			time.Sleep(2 * compactionTick)
			db.want(t, "after the pause", n+2)
		}
		c.failed()
		c.worked()
		c.Done()
		db.want(t, "healed", 5)
		c.Unregister()
		c.Done()
		if ok, _ := c.TrySchedule(); ok {
			t.Fatal("a compaction begins after the end")
		}
		db.want(t, "ended", 5)
	})
}
