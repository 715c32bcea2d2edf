package gossip

import (
	"sync"
	"testing"
)

// A copied data folder runs beside its original, both joined to a third node:
// at least one of the two is told, by name and address.
func TestCopiedFolderIsReported(t *testing.T) {
	var mu sync.Mutex
	var told []Conflict
	report := func(c *Config) {
		c.OnConflict = func(f Conflict) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, f)
		}
	}
	third := start(t, 2)
	original := start(t, 1, report)
	join(t, original, third)
	sees(t, third, 1, 2)
	copied := start(t, 1, report, func(c *Config) { c.Meta.Boot = 2 })
	if _, err := copied.Join(t.Context(), []string{third.Address().String()}); err != nil {
		t.Fatal(err)
	}
	await(t, "the copy is reported", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) > 0
	})
	mu.Lock()
	defer mu.Unlock()
	f := told[0]
	if f.Node != node(1) || !f.Mine || f.Here.Address == f.There.Address {
		t.Fatalf("%+v", f)
	}
	for _, m := range []Member{f.Here, f.There} {
		if m.Address != original.Address() && m.Address != copied.Address() {
			t.Errorf("a conflict with %v", m.Address)
		}
	}
	if count(t, original, "conflicts_total", "")+count(t, copied, "conflicts_total", "") == 0 {
		t.Error("not counted")
	}
}
