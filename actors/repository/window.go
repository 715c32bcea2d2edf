package repository

import (
	"bytes"
	"sort"
)

// window is what memory holds of the runs in front of a lane, of one priority:
// every retained run whose last number is in [from, to], and when open every one
// at or above from. A lane that is served keeps its windows, and what is published
// joins an open one: workers that keep up never read the state. It mirrors the
// state and decides nothing, so it may be dropped between any two looks.
type window struct {
	runs     []run
	from, to Seq
	open     bool
	items    int // in runs
}

const (
	readAhead   = 64  // packets that one scan reads, if there are as many
	windowItems = 256 // packets beyond which a window takes no more runs
	windowCost  = 48  // bytes of memory for a packet, its share of the run included
)

func (w *window) reset(from Seq) {
	*w = window{runs: w.runs[:0], from: from, to: from - 1}
}

// covers says whether a walk from a number on may begin in the window, or right
// behind it.
func (w *window) covers(from Seq) bool {
	return from >= w.from && (w.open || from <= w.to+1)
}

// slot is room for one more run, with the memory of one that was there before.
func (w *window) slot() *run {
	if len(w.runs) < cap(w.runs) {
		w.runs = w.runs[:len(w.runs)+1]
	} else {
		w.runs = append(w.runs, run{})
	}
	return &w.runs[len(w.runs)-1]
}

// trim forgets the runs that end at or below a cursor.
func (w *window) trim(cursor Seq) {
	for len(w.runs) > 0 && w.runs[0].last() <= cursor {
		w.items -= len(w.runs[0].items)
		w.runs[0] = run{} // its items may be another window's too
		w.runs = w.runs[1:]
	}
	w.from = max(w.from, cursor+1)
	w.to = max(w.to, cursor)
}

// join adds a run that was published now to an open window.
func (w *window) join(x run) {
	if !w.open {
		return
	}
	if w.items >= windowItems {
		w.open, w.to = false, x.first()-1
		return
	}
	w.runs = append(w.runs, x)
	w.items += len(x.items)
}

// walker goes over the runs of a priority in order. There is one walk at a time,
// but for the sweep's; what happens between two steps may drop what lies behind.
type walker struct {
	m    *Machine
	r    *repo
	rank Rank
	win  *window
	lane *lane // whose window it is; nil: a window for this walk only
	at   int
}

// walk begins at the run that holds the number, or at the next one. l is the lane
// that it is for, or nil.
func (m *Machine) walk(r *repo, l *lane, rank Rank, from Seq) walker {
	w := walker{m: m, r: r, rank: rank, win: &m.spare}
	if l != nil && l.served {
		if l.windows[rank] == nil {
			l.windows[rank] = &window{from: l.cursors[rank] + 1, to: l.cursors[rank]}
		}
		if own := l.windows[rank]; own.covers(from) {
			w.win, w.lane = own, l
			w.at = sort.Search(len(own.runs), func(i int) bool { return own.runs[i].last() >= from })
			return w
		}
	}
	w.win.reset(from)
	return w
}

// next is the next run, or nil at the end. It is valid until the next call, and
// never to be changed.
func (w *walker) next() (*run, error) {
	for w.at == len(w.win.runs) {
		if w.win.open {
			return nil, nil
		}
		switch from := w.win.to + 1; {
		case w.lane == nil:
			w.win.reset(from)
			w.at = 0
		case w.win.items >= windowItems: // the rest is read beside it
			w.win, w.lane, w.at = &w.m.spare, nil, 0
			w.win.reset(from)
		}
		before := w.win.items
		if err := w.m.read(w.win, w.r.id, w.rank); err != nil {
			return nil, err
		}
		if w.lane != nil {
			w.m.repos.charge(w.r, (w.win.items-before)*windowCost)
		}
	}
	w.at++
	return &w.win.runs[w.at-1], nil
}

// read adds the runs behind a window to it, some at a time.
func (m *Machine) read(w *window, repo string, rank Rank) error {
	m.lower = append(m.lower[:0], m.keyRun(repo, rank, w.to+1)...)
	m.upper = append(m.upper[:0], m.lower[:len(m.lower)-8]...)
	m.upper[len(m.upper)-1]++ // the next rank
	before, want, full := *w, w.items+readAhead, false
	var failed error
	err := m.scan(m.lower, m.upper, func(k, v []byte) bool {
		x := w.slot()
		if err := x.decode(v); err != nil {
			failed = &CorruptError{bytes.Clone(k), err.Error()}
			return false
		}
		w.to = x.last()
		w.items += len(x.items)
		full = w.items >= want
		return !full
	})
	if failed != nil {
		err = failed
	}
	if err != nil {
		*w = before // as if it had not been tried
		return err
	}
	w.open = !full
	return nil
}

// closeWindows forgets what memory holds of a priority, because a run changed in
// its midst.
func (m *Machine) closeWindows(r *repo, rank Rank) {
	for i := range r.lanes {
		l := r.lanes[i].lane
		if w := l.windows[rank]; w != nil {
			m.repos.charge(r, -w.items*windowCost)
			l.windows[rank] = nil
		}
	}
}

// headOf is a packet with the run that it lies in.
type headOf struct {
	item       runItem
	ref        Ref
	acceptedMs int64
	of         Seq // of a redriven packet: the dead letter that it was
}

func (x *run) head(i int) headOf {
	return headOf{item: x.items[i], ref: x.ref(i), acceptedMs: x.acceptedMs}
}

// itemAfter is the first packet of a priority above seq; its seq is 0 if there is
// none.
func (m *Machine) itemAfter(r *repo, l *lane, rank Rank, seq Seq) (h headOf, err error) {
	w := m.walk(r, l, rank, seq+1)
	x, err := w.next()
	if err != nil || x == nil {
		return headOf{}, err
	}
	return x.head(x.above(seq)), nil
}
