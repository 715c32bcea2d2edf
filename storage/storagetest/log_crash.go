package storagetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/waystation/waystation/storage"
)

const (
	crashSeeds  = 24
	crashGroups = 3
)

// logModel is what a log should hold. It is copied before it is changed.
type logModel struct {
	groups [crashGroups]groupModel
}

type groupModel struct {
	truncated storage.Position
	entries   []storage.Entry
	hard      storage.HardState
}

func (g *groupModel) last() uint64 { return g.truncated.Index + uint64(len(g.entries)) }

// runLogCrash commits random batches, with sync or without, and cuts the power between them.
// What is found then must be exactly the log after one of the commits, and no earlier one
// than the last that was synced.
func runLogCrash(t *testing.T, fresh func(t *testing.T) Disk) {
	for seed := range uint64(crashSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			d := fresh(t)
			history := []logModel{{}}
			for range 4 {
				l := openLog(t, d)
				synced := len(history) - 1
				for range r.IntN(20) {
					next := history[len(history)-1]
					sync := r.IntN(2) == 0
					b := l.NewBatch()
					for range 1 + r.IntN(4) {
						next.mutate(r, b)
					}
					b.PutNode([]byte("commit"), binary.BigEndian.AppendUint64(nil, uint64(len(history))))
					must(t, b.Commit(sync))
					history = append(history, next)
					if sync {
						synced = len(history) - 1
					}
				}
				history[len(history)-1].check(t, l)
				d.Crash(r.Uint64())
				history = recoverLog(t, d, history, synced)
			}
		})
	}
}

func recoverLog(t *testing.T, d Disk, history []logModel, synced int) []logModel {
	t.Helper()
	l := openLog(t, d)
	found := 0
	if v, err := l.Node([]byte("commit")); err == nil {
		found = int(binary.BigEndian.Uint64(v))
	} else if synced > 0 {
		t.Fatalf("commit %d was synced and is lost: %v", synced, err)
	}
	if found < synced {
		t.Fatalf("commit %d was synced, found only %d", synced, found)
	}
	history[found].check(t, l)
	must(t, l.Close())
	return history[:found+1]
}

func (m *logModel) mutate(r *rand.Rand, b *storage.LogBatch) {
	id := storage.GroupID(r.IntN(crashGroups))
	g := &m.groups[id]
	switch r.IntN(6) {
	case 0, 1:
		g.append(r, id, b, g.last()+1)
	case 2: // another leader's entries over ours
		g.append(r, id, b, g.truncated.Index+1+r.Uint64N(uint64(len(g.entries))+1))
	case 3:
		g.truncate(r, id, b)
	case 4:
		from := g.truncated.Index + 1 + r.Uint64N(uint64(len(g.entries))+1)
		b.DeleteFrom(id, from, g.last())
		g.entries = slices.Clip(g.entries[:from-g.truncated.Index-1])
	case 5:
		g.hard = storage.HardState{Term: r.Uint64(), Vote: r.Uint64(), Commit: r.Uint64()}
		b.SetHardState(id, g.hard)
	}
}

func (g *groupModel) append(r *rand.Rand, id storage.GroupID, b *storage.LogBatch, from uint64) {
	sizes := []int{0, 10, 5000, 32704, 40_000, 100_000}
	es := entries(from, from+r.Uint64N(4), r.Uint64N(1<<40), sizes[r.IntN(len(sizes))])
	b.Append(id, es)
	g.entries = append(slices.Clip(g.entries[:from-g.truncated.Index-1]), es...)
}

func (g *groupModel) truncate(r *rand.Rand, id storage.GroupID, b *storage.LogBatch) {
	to := storage.Position{Index: g.truncated.Index + r.Uint64N(uint64(len(g.entries))+3), Term: r.Uint64N(100)}
	b.Truncate(id, to)
	switch {
	case to.Index <= g.truncated.Index:
		return
	case to.Index >= g.last():
		g.entries = nil
	default:
		g.entries = g.entries[to.Index-g.truncated.Index:]
	}
	g.truncated = to
}

func (m *logModel) check(t *testing.T, l *storage.Log) {
	t.Helper()
	for id := range storage.GroupID(crashGroups) {
		g := &m.groups[id]
		must(t, l.Damaged(id))
		wantBounds(t, l, id, g.truncated.Index+1, g.last())
		if len(g.entries) > 0 {
			wantEntries(t, l, id, g.entries)
		}
		if term, err := l.Term(id, g.truncated.Index); err != nil || term != g.truncated.Term {
			t.Fatalf("group %d term at the truncation: %d, %v, want %d", id, term, err, g.truncated.Term)
		}
		if h, err := l.HardState(id); err != nil || h != g.hard {
			t.Fatalf("group %d hard state: %v, %v, want %v", id, h, err, g.hard)
		}
	}
}
