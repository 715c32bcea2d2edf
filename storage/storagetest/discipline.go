package storagetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/waystation/waystation/storage"
)

// runDiscipline keeps log and state as the engine does, for a few groups: entries are synced
// in the log, then applied with their index in one state batch; the log is truncated only to
// what the durable view shows as applied. After any crash, replaying the log over the state
// must give back every acknowledged entry, once.
func runDiscipline(t *testing.T, fresh func(t *testing.T) Disk) {
	for seed := range uint64(crashSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			d := fresh(t)
			n := &disciplined{r: r}
			for range 5 {
				n.open(t, d)
				n.replay(t)
				for range r.IntN(60) {
					n.step(t)
				}
				d.Crash(r.Uint64())
			}
			n.open(t, d)
			n.replay(t)
			must(t, n.log.Close())
			must(t, n.state.Close())
		})
	}
}

type disciplined struct {
	r       *rand.Rand
	log     *storage.Log
	state   *storage.State
	acked   [crashGroups]uint64 // the last entry that was synced
	applied [crashGroups]uint64
}

func (n *disciplined) open(t *testing.T, d Disk) {
	t.Helper()
	n.log, n.state = openLog(t, d), openState(t, d)
}

func appliedKey(g storage.GroupID) []byte { return fmt.Appendf(nil, "%d/applied", g) }

func effectKey(g storage.GroupID, index uint64) []byte {
	return fmt.Appendf(nil, "%d/effect/%016x", g, index)
}

func appliedIn(t *testing.T, r storage.Reader, g storage.GroupID) uint64 {
	t.Helper()
	v, err := r.Get(appliedKey(g))
	if err == storage.ErrNotFound { //nolint:errorlint // it must not be wrapped
		return 0
	}
	must(t, err)
	return binary.BigEndian.Uint64(v)
}

// replay checks the invariants that a start relies on, and applies the rest of the log.
func (n *disciplined) replay(t *testing.T) {
	t.Helper()
	for g := range storage.GroupID(crashGroups) {
		first, last := n.log.Bounds(g)
		applied := appliedIn(t, n.state, g)
		if last < n.acked[g] {
			t.Fatalf("group %d: entry %d was acknowledged, the log ends at %d: %v", g, n.acked[g], last, n.log.Damaged(g))
		}
		if applied+1 < first {
			t.Fatalf("group %d: applied %d, but the log begins at %d: a hole", g, applied, first)
		}
		if applied > last {
			t.Fatalf("group %d: applied %d, but the log ends at %d: %v", g, applied, last, n.log.Damaged(g))
		}
		n.applied[g], n.acked[g] = applied, last
		for n.applied[g] < last {
			n.apply(t, g)
		}
		n.checkEffects(t, g)
	}
}

func (n *disciplined) step(t *testing.T) {
	t.Helper()
	g := storage.GroupID(n.r.IntN(crashGroups))
	switch n.r.IntN(8) {
	case 0, 1, 2:
		n.append(t)
	case 3, 4, 5:
		if n.applied[g] < n.acked[g] {
			n.apply(t, g)
		}
	case 6:
		must(t, n.state.Flush())
	case 7:
		n.truncate(t, g)
	}
}

func (n *disciplined) append(t *testing.T) {
	t.Helper()
	b := n.log.NewBatch()
	last := n.acked
	for g := range storage.GroupID(crashGroups) {
		for range n.r.IntN(3) {
			last[g]++
			b.Append(g, entries(last[g], last[g], 1, n.r.IntN(50_000)))
		}
	}
	must(t, b.Commit(true))
	n.acked = last
}

func (n *disciplined) apply(t *testing.T, g storage.GroupID) {
	t.Helper()
	index := n.applied[g] + 1
	es, err := n.log.Entries(g, index, index+1, 1)
	must(t, err)
	b := n.state.NewBatch()
	b.Set(effectKey(g, index), es[0].Data[:min(8, len(es[0].Data))])
	b.Set(appliedKey(g), binary.BigEndian.AppendUint64(nil, index))
	must(t, b.Commit())
	n.applied[g] = index
}

func (n *disciplined) truncate(t *testing.T, g storage.GroupID) {
	t.Helper()
	view, done := n.state.Durable()
	durable := appliedIn(t, view, g)
	done()
	if durable > n.applied[g] {
		t.Fatalf("group %d: durable %d is ahead of applied %d", g, durable, n.applied[g])
	}
	b := n.log.NewBatch()
	b.Truncate(g, storage.Position{Index: durable, Term: 1})
	must(t, b.Commit(n.r.IntN(2) == 0))
}

func (n *disciplined) checkEffects(t *testing.T, g storage.GroupID) {
	t.Helper()
	next := uint64(1)
	lower, upper := effectKey(g, 0), effectKey(g, ^uint64(0))
	must(t, n.state.Scan(lower, upper, func(k, _ []byte) bool {
		if string(k) != string(effectKey(g, next)) {
			t.Fatalf("group %d: found effect %s, want that of entry %d", g, k, next)
		}
		next++
		return true
	}))
	if next-1 != n.applied[g] {
		t.Fatalf("group %d: applied %d, effects up to %d", g, n.applied[g], next-1)
	}
}
