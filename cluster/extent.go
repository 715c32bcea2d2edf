package cluster

import "sync"

// extent measures the applied part of a group's log, so that the truncator can
// say which index leaves how many bytes. It keeps marks some distance apart
// instead of a size for each entry.
type extent struct {
	mu    sync.Mutex
	step  int64
	total int64 // payload bytes of all entries ever counted
	gone  int64 // those that were truncated
	asked uint64
	marks []mark
}

// mark says that the entries up to index hold bytes, counted like total.
type mark struct {
	index uint64
	bytes int64
}

// found begins with what is on disk from first to applied. The sizes in between
// are not known: the marks assume that all entries are alike. Entries behind
// applied are counted here and again when they are applied. Both only shift the
// first truncations a little.
func (x *extent) found(first, applied uint64, bytes, step int64) {
	x.step, x.total = step, bytes
	if applied < first || bytes == 0 {
		return
	}
	n := applied - first + 1
	parts := min(n, max(1, uint64(bytes/step)))
	for k := uint64(1); k <= parts; k++ {
		x.marks = append(x.marks, mark{first + n*k/parts - 1, bytes * int64(k) / int64(parts)})
	}
}

// grow counts an applied entry and says whether it made a mark.
func (x *extent) grow(index uint64, bytes int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.total += int64(bytes)
	last := x.gone
	if n := len(x.marks); n > 0 {
		last = x.marks[n-1].bytes
	}
	if x.total-last < x.step {
		return false
	}
	x.marks = append(x.marks, mark{index, x.total})
	return true
}

// retained returns the bytes that are not truncated.
func (x *extent) retained() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.total - x.gone
}

// target returns the highest mark that leaves at least keep bytes, or 0. An
// index that is asked for is returned no more: what could not be truncated is
// tried again when the log has grown.
func (x *extent) target(keep int64) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := len(x.marks) - 1; i >= 0; i-- {
		if m := x.marks[i]; x.total-m.bytes >= keep && m.index > x.asked {
			return m.index
		}
	}
	return 0
}

// floor returns the index below which nothing is kept for those who lack it: 0
// as long as not more than hold is retained, else what leaves half of that, so
// that not every entry moves it.
func (x *extent) floor(hold int64) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.total-x.gone <= hold {
		return 0
	}
	for i := len(x.marks) - 1; i >= 0; i-- {
		if m := x.marks[i]; x.total-m.bytes >= hold/2 {
			return m.index
		}
	}
	return 0
}

// grown returns the bytes ever counted.
func (x *extent) grown() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.total
}

// ask notes that a truncation up to index is under way.
func (x *extent) ask(index uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = max(x.asked, index)
}

// restart forgets all that was counted: the log begins anew.
func (x *extent) restart() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.gone, x.marks = x.total, x.marks[:0]
}

// cut notes that the log was truncated up to index.
func (x *extent) cut(index uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for n < len(x.marks) && x.marks[n].index <= index {
		x.gone = x.marks[n].bytes
		n++
	}
	x.marks = append(x.marks[:0], x.marks[n:]...)
}
