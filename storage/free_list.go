package storage

import "sync"

const (
	// freeBatchCount is how many batches of a store are kept to be used again.
	freeBatchCount = 4
	// freeBatchBytes is the largest buffer that a kept batch of the log or of Pebble has.
	freeBatchBytes = 8 << 20
)

// freeList keeps a few batches with their buffers, each for the next that is asked for. A
// sync.Pool would lose them at each garbage collection, and they grow by doubling again.
type freeList[T any] struct {
	mu     sync.Mutex
	list   []*T
	closed bool
}

// get returns a batch that was put, or nil.
func (f *freeList[T]) get() *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.list)
	if n == 0 {
		return nil
	}
	b := f.list[n-1]
	f.list = f.list[:n-1]
	return b
}

// put says whether it kept the batch.
func (f *freeList[T]) put(b *T) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.list) == freeBatchCount {
		return false
	}
	f.list = append(f.list, b)
	return true
}

// close drops what is there, and what is put later.
func (f *freeList[T]) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.closed = nil, true
}
