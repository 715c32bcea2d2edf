package transport

import (
	"testing"

	"github.com/waystation/waystation/cluster/identity"
)

// A port that refuses connections after one broke says that the process behind it
// has ended: once, until there is one again.
func TestGone(t *testing.T) {
	w := newWorld(t)
	gone := make(chan identity.NodeID, 16)
	a := w.start(1, func(c *Config) { c.Gone = func(n identity.NodeID) { gone <- n } })
	a.Connect(nodeID(3)) // nobody was ever there
	for range 2 {
		b := w.start(2, nil)
		a.connected(2)
		b.stop()
		if n := await(t, "a node that is gone", gone); n != nodeID(2) {
			t.Fatalf("node %s is gone", n)
		}
	}
	if n := len(gone); n != 0 {
		t.Errorf("told %d times more", n)
	}
}
