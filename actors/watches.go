package actors

import (
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/actors/repository"
)

// maxWatches bounds those who wait for a packet of one partition.
const maxWatches = 1 << 14

var refusedWatches = &Refusal{
	Code: CodeResourceExhausted, RetryAfter: retrySoon, reason: reasonBudget,
	Message: "too many wait for packets of the partition; call again later, under the same id",
}

// Watch is one who waits for what becomes of a packet. Done is closed once there may be
// something to see, or the partition is led here no more.
type Watch struct {
	Done <-chan struct{}

	done chan struct{}
	keys [2]string // the lane's, and that of the packet's dead letter
	rank repository.Rank
	seq  repository.Seq
}

// watches are those who wait for packets of one partition. Applying an entry costs
// nothing while nobody waits, and a look at each lane that it writes otherwise.
type watches struct {
	count atomic.Int32

	mu    sync.Mutex
	byKey map[string][]*Watch
}

// Watch has w.Done closed once the group has settled the packet of this number and
// priority, or given it up. The caller looks at the state after it has called Watch,
// and calls Unwatch in any case. It is refused when too many wait, or the partition
// is not led here.
func (p *Partition) Watch(g repository.GroupID, repo string, rank repository.Rank, seq repository.Seq) (*Watch, error) {
	w := &Watch{done: make(chan struct{}), rank: rank, seq: seq}
	w.Done = w.done
	_ = p.View(func(m *repository.Machine) error { // the callback has no error
		w.keys = [2]string{string(m.LaneKey(g, bytesOf(repo))), string(m.DeadKey(g, bytesOf(repo), seq))}
		return nil
	})
	x := &p.watches
	x.mu.Lock()
	defer x.mu.Unlock()
	if int(x.count.Load()) >= maxWatches {
		return nil, refusedWatches
	}
	if p.term.Load() == 0 { // looked at under mu: endAll comes after it is cleared
		return nil, refusedNotLeader
	}
	if x.byKey == nil {
		x.byKey = map[string][]*Watch{}
	}
	for _, key := range w.keys {
		x.byKey[key] = append(x.byKey[key], w)
	}
	x.count.Add(1)
	return w, nil
}

// Unwatch ends a watch. A second call does nothing.
func (p *Partition) Unwatch(w *Watch) {
	x := &p.watches
	x.mu.Lock()
	defer x.mu.Unlock()
	if w.done != nil {
		x.end(w)
	}
}

// end is Unwatch for who holds mu.
func (x *watches) end(w *Watch) {
	for _, key := range w.keys {
		list := x.byKey[key]
		for i := range list {
			if list[i] == w {
				list[i] = list[len(list)-1]
				list[len(list)-1] = nil
				list = list[:len(list)-1]
				break
			}
		}
		if x.byKey[key] = list; len(list) == 0 {
			delete(x.byKey, key)
		}
	}
	close(w.done)
	w.done = nil
	x.count.Add(-1)
}

// applied wakes those who wait for what an entry did.
func (x *watches) applied(eff *repository.Effects) {
	if x.count.Load() == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	eff.Watched(func(key []byte, cursors [repository.Ranks]repository.Seq, dead bool) {
		list := x.byKey[string(key)]
		for i := len(list) - 1; i >= 0; i-- { // end puts the last one, which was looked at, in its place
			if w := list[i]; dead || w.seq <= cursors[w.rank] {
				x.end(w)
				list = list[:len(list)-1]
			}
		}
	})
}

// endAll wakes everybody: the partition is led here no more.
func (x *watches) endAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.byKey) > 0 {
		for _, list := range x.byKey {
			x.end(list[0])
			break
		}
	}
}
