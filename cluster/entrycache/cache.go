// Package entrycache keeps the newest entries of a raft log in memory. Raft's
// asynchronous mode applies from storage alone, and delivery reads what was just
// written: neither should cost a read of the disk.
//
// It is apart from the core in package replica because it has a lock: the core
// writes it, and others read it meanwhile.
package entrycache

import (
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Cache holds the newest entries of one group's log, bounded by the bytes of
// their payloads. All methods may be called at the same time.
//
// It may hold entries that are not yet on disk, or not committed: a reader
// asks only for what it knows to be applied. It may also hold entries that were
// cut off the log; they are as good as ever.
type Cache struct {
	mu    sync.RWMutex
	limit int64
	ents  []*pb.Entry // ents[head:] are live, of contiguous indexes
	head  int
	bytes int64
}

// New returns a cache of about limit bytes; the newest entry is kept
// whatever its size.
func New(limit int64) *Cache { return &Cache{limit: limit} }

// Limit sets the bytes that are held from now on, as New does.
func (c *Cache) Limit(limit int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	c.trim()
}

// Bytes returns the payload bytes held.
func (c *Cache) Bytes() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.bytes
}

// Data returns the payload of the entry at index. It must not be changed.
func (c *Cache) Data(index uint64) ([]byte, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.at(index); e != nil {
		return e.GetData(), true
	}
	return nil, false
}

// Put appends ents, after it dropped what they overwrite. Entries that do not
// join what is held replace it.
func (c *Cache) Put(ents []*pb.Entry) {
	if len(ents) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from := ents[0].GetIndex()
	first, last := c.bounds()
	if from < first || from > last+1 {
		c.clear()
	} else {
		c.cutFrom(from)
	}
	for _, e := range ents {
		c.bytes += int64(len(e.GetData()))
	}
	c.ents = append(c.ents, ents...)
	c.trim()
}

// trim drops the oldest entries beyond the limit.
func (c *Cache) trim() {
	for c.bytes > c.limit && len(c.ents)-c.head > 1 {
		c.dropFirst()
	}
	c.compact()
}

// Clear drops all that is held.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

// Slice returns entries from lo on, below hi, of at most maxBytes (but one in
// any case), or nil if lo is not held. The slice belongs to the caller, the
// entries do not.
func (c *Cache) Slice(lo, hi, maxBytes uint64) []*pb.Entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.at(lo) == nil {
		return nil
	}
	live := c.ents[c.head:]
	begin := int(lo - live[0].GetIndex())
	end, size := begin, uint64(0)
	for end < len(live) && live[end].GetIndex() < hi {
		size += entryBytes(live[end])
		if size > maxBytes && end > begin {
			break
		}
		end++
	}
	out := make([]*pb.Entry, end-begin)
	copy(out, live[begin:end])
	return out
}

// First returns the oldest index held, or 0.
func (c *Cache) First() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.ents) == c.head {
		return 0
	}
	return c.ents[c.head].GetIndex()
}

// Term returns the term of the entry at index.
func (c *Cache) Term(index uint64) (uint64, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.at(index); e != nil {
		return e.GetTerm(), true
	}
	return 0, false
}

func (c *Cache) at(index uint64) *pb.Entry {
	if len(c.ents) == c.head {
		return nil
	}
	first := c.ents[c.head].GetIndex()
	if index < first || index-first >= uint64(len(c.ents)-c.head) {
		return nil
	}
	return c.ents[c.head+int(index-first)]
}

func (c *Cache) bounds() (first, last uint64) {
	if len(c.ents) == c.head {
		return 0, 0
	}
	return c.ents[c.head].GetIndex(), c.ents[len(c.ents)-1].GetIndex()
}

func (c *Cache) cutFrom(index uint64) {
	for n := len(c.ents); n > c.head && c.ents[n-1].GetIndex() >= index; n = len(c.ents) {
		c.bytes -= int64(len(c.ents[n-1].GetData()))
		c.ents[n-1] = nil
		c.ents = c.ents[:n-1]
	}
}

func (c *Cache) dropFirst() {
	c.bytes -= int64(len(c.ents[c.head].GetData()))
	c.ents[c.head] = nil
	c.head++
}

func (c *Cache) clear() {
	clear(c.ents)
	c.ents, c.head, c.bytes = c.ents[:0], 0, 0
}

// compact moves the live entries to the front once more than half of the
// array is dead, so that it does not grow for ever.
func (c *Cache) compact() {
	if c.head < 64 || c.head < len(c.ents)/2 {
		return
	}
	n := copy(c.ents, c.ents[c.head:])
	clear(c.ents[n:])
	c.ents, c.head = c.ents[:n], 0
}

// entryBytes is about what raft counts for an entry; it is exact enough for
// limits.
func entryBytes(e *pb.Entry) uint64 { return uint64(len(e.GetData())) + 24 }
