package lease

import "github.com/waystation/waystation/actors/repository"

// Lane is a runnable lane in a Window.
type Lane struct {
	Repo string
	Rank repository.Rank

	state laneState
	turn  uint64 // the queue entry that is its own; older ones are void
	again bool   // an event came while it was taken
	rank  repository.Rank
}

type laneState uint8

const (
	laneReady laneState = iota + 1
	laneTaken
	laneGone
)

type place struct {
	lane *Lane
	turn uint64
}

// Window is a bounded page of one group's runnable lanes in one partition. The
// replicated index is the truth: a lane too many costs a look at the state, one
// too few is found by the next page. So in doubt a lane stays.
type Window struct {
	limit  int
	lanes  map[string]*Lane
	queues [repository.Ranks]fifo[place]
	ready  [repository.Ranks]int
	more   bool  // the index holds ready lanes that the window does not
	paging bool  // a page is being read
	nextMs int64 // when a lane that is not ready turns so; 0: none
	turn   uint64
	// beyond is the highest priority of those lanes. They come before what the window
	// holds of lower ones, which therefore must not keep it from being filled.
	beyond repository.Rank
}

// NewWindow makes a window of at most limit ready lanes of each priority. It
// wants a first page.
func NewWindow(limit int) *Window {
	return &Window{limit: max(limit, 1), lanes: map[string]*Lane{}, more: true, beyond: repository.Ranks - 1}
}

// Ready is the number of lanes that Take would give at a priority.
func (w *Window) Ready(r repository.Rank) int { return w.ready[r] }

// Add tells the window that a lane is runnable, now or at readyMs, and says
// whether it has one more to take.
func (w *Window) Add(repo string, rank repository.Rank, readyMs, nowMs int64) (grown bool) {
	if readyMs > nowMs {
		w.Later(readyMs)
		return false
	}
	l := w.lanes[repo]
	switch {
	case l == nil && w.ready[rank] >= w.limit:
		w.miss(rank)
		return false
	case l == nil:
		l = &Lane{Repo: repo}
		w.lanes[repo] = l
	case l.state == laneTaken:
		l.again, l.rank = true, rank
		return false
	case l.Rank == rank:
		return false
	default:
		w.ready[l.Rank]--
		w.push(l, rank)
		return false
	}
	w.push(l, rank)
	return true
}

// miss notes that the index holds a ready lane which the window does not.
func (w *Window) miss(rank repository.Rank) {
	if !w.more || rank < w.beyond {
		w.beyond = rank
	}
	w.more = true
}

// Later notes that some lane turns ready at readyMs: a page is wanted then.
func (w *Window) Later(readyMs int64) {
	if w.nextMs == 0 || readyMs < w.nextMs {
		w.nextMs = readyMs
	}
}

func (w *Window) push(l *Lane, rank repository.Rank) {
	w.turn++
	l.Rank, l.state, l.turn, l.again = rank, laneReady, w.turn, false
	w.queues[rank].push(place{l, w.turn})
	w.ready[rank]++
}

// Take returns the lane that has been ready longest at a priority. Put, Drop or
// Wait must follow.
func (w *Window) Take(rank repository.Rank) (*Lane, bool) {
	for {
		p, ok := w.queues[rank].pop()
		if !ok {
			return nil, false
		}
		if p.lane.turn == p.turn && p.lane.state == laneReady {
			p.lane.state = laneTaken
			w.ready[rank]--
			return p.lane, true
		}
	}
}

// Claim takes a lane whether it is ready or not, unless it is taken already.
// Its owner is about to end its lease and asks for the next one.
func (w *Window) Claim(repo string, rank repository.Rank) (*Lane, bool) {
	l := w.lanes[repo]
	switch {
	case l == nil:
		l = &Lane{Repo: repo, Rank: rank}
		w.lanes[repo] = l
	case l.state == laneTaken:
		return nil, false
	default:
		w.ready[l.Rank]--
		w.turn++
		l.turn = w.turn
	}
	l.state = laneTaken
	return l, true
}

// Put gives a taken lane back: it is still runnable. It says whether the window
// has one more to take.
func (w *Window) Put(l *Lane) bool {
	if l.state != laneTaken {
		return false
	}
	w.push(l, l.Rank)
	return true
}

// Drop ends a taken lane: it is leased, or has nothing to do. An event that came
// meanwhile brings it back; then Drop says so.
func (w *Window) Drop(l *Lane) (back bool) {
	if l.state != laneTaken {
		return false
	}
	if l.again {
		w.push(l, l.rank)
		return true
	}
	l.state = laneGone
	delete(w.lanes, l.Repo)
	return false
}

// Wait ends a taken lane that turns ready at readyMs.
func (w *Window) Wait(l *Lane, readyMs int64) (back bool) {
	w.Later(readyMs)
	return w.Drop(l)
}

// WantsPage says whether a page of the index should be read now: a lane has
// turned ready, or the window runs low and knows that there are more.
func (w *Window) WantsPage(nowMs int64) bool {
	return !w.paging && (w.nextMs != 0 && w.nextMs <= nowMs || w.more && w.lowTo(w.beyond))
}

// Low says whether the window has less than a quarter of what one priority may hold.
func (w *Window) Low() bool { return w.lowTo(repository.Ranks - 1) }

// lowTo is Low for the priorities down to one.
func (w *Window) lowTo(rank repository.Rank) bool {
	n := 0
	for _, c := range w.ready[:rank+1] {
		n += c
	}
	return n*4 < w.limit
}

// NextMs is when WantsPage may turn true by time alone; 0: never.
func (w *Window) NextMs() int64 { return w.nextMs }

// BeginPage is called before a page is read, so that what happens meanwhile
// counts on top of it.
func (w *Window) BeginPage() { w.paging, w.more, w.nextMs = true, false, 0 }

// EndPage is called after the page's lanes were added. more says that the index
// has ready lanes beyond them; nextMs when the next lane turns ready, 0 if none.
func (w *Window) EndPage(more bool, nextMs int64) {
	w.paging = false
	if more {
		rank := repository.Rank(0) // the page ended where a priority was full
		for rank < repository.Ranks-1 && w.ready[rank] < w.limit {
			rank++
		}
		w.miss(rank)
	}
	if nextMs > 0 {
		w.Later(nextMs)
	}
}

// fifo is a queue that keeps its memory.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) push(v T) {
	if f.head > len(f.items)/2 && len(f.items) == cap(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

func (f *fifo[T]) pop() (v T, ok bool) {
	if f.head == len(f.items) {
		return v, false
	}
	var zero T
	v, f.items[f.head] = f.items[f.head], zero
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return v, true
}
