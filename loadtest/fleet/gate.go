package fleet

import "sync"

// way is from one node to another.
type way struct{ from, to int }

// gate says between which nodes something passes, in each direction.
type gate struct {
	mu      sync.Mutex
	shut    map[way]bool
	changed chan struct{} // closed at each change
	quit    chan struct{}
}

func newGate() *gate {
	return &gate{shut: map[way]bool{}, changed: make(chan struct{}), quit: make(chan struct{})}
}

// set shuts or opens ways.
func (g *gate) set(shut bool, ways ...way) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range ways {
		if shut {
			g.shut[w] = true
		} else {
			delete(g.shut, w)
		}
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// open says whether all of the ways are, and what tells of a change.
func (g *gate) open(ways ...way) (bool, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range ways {
		if g.shut[w] {
			return false, g.changed
		}
	}
	return true, g.changed
}

// pass waits until a way is open; false when the network ends.
func (g *gate) pass(w way) bool {
	for {
		open, changed := g.open(w)
		if open {
			return true
		}
		select {
		case <-changed:
		case <-g.quit:
			return false
		}
	}
}
