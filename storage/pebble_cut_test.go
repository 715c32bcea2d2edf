package storage

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// straddled are the bytes of a written state's table at which a flipped bit hurts the end
// of one group and the beginning of the next.
func straddled(t *testing.T, base *vfs.MemFS, table string, records int) map[GroupID]int {
	t.Helper()
	found := map[GroupID]int{}
	size := fileSize(t, base, table)
	for g := range GroupID(hurtGroups - 1) {
		middle := size * int(g+1) / hurtGroups
		for at := middle - 16<<10; at < middle+16<<10 && found[g] == 0; at += 512 {
			fs := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: killed().RNG})
			flip(t, fs, table, 8*at)
			s, err := OpenState((&patient{}).config(fs))
			if err != nil {
				t.Fatal(err)
			}
			_, errA := readGroup(t, s, g)
			_, errB := readGroup(t, s, g+1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if errA != nil && errB != nil {
				found[g] = at
			}
		}
		if found[g] == 0 {
			t.Fatalf("no block with records of the groups %d and %d of %d records", g, g+1, records)
		}
	}
	return found
}

// TestCutBesideDamage: where a damaged block has records of two groups, the replacement of
// either takes nothing from the groups next to them, and both are cured in the end.
func TestCutBesideDamage(t *testing.T) {
	const records = 500
	base := writtenState(t, records)
	table := findFile(t, base, ".sst")
	for g, at := range straddled(t, base, table, records) {
		for _, order := range [][]GroupID{{g, g + 1}, {g + 1, g}} {
			t.Run(fmt.Sprint(order), func(t *testing.T) {
				fs := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: killed().RNG})
				flip(t, fs, table, 8*at)
				p := &patient{}
				s := openHurt(t, p, fs)
				if _, err := readGroup(t, s, order[0]); err == nil {
					t.Fatal("a damaged group can be read")
				}
				p.await(t, "the damage of one")
				p.await(t, "the damage of the other")
				for i, cured := range order {
					cure(t, s, cured)
					for other := range GroupID(hurtGroups) {
						n, err := readGroup(t, s, other)
						switch {
						case slices.Contains(order[:i+1], other):
							if err != nil || n != 7 {
								t.Errorf("group %d, which was cured: %d records, %v", other, n, err)
							}
						case slices.Contains(order, other): // it is stopped, and waits for its own
						case err != nil || n != records:
							t.Errorf("group %d, which is not hurt: %d records after the cure of %d, %v", other, n, cured, err)
						}
					}
				}
				if err := errors.Join(compact(t, s), s.Fault()); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

// vanishing has the next opening of a table fail as if it were gone.
type vanishing struct {
	vfs.FS
	table string
	gone  atomic.Bool
}

func (f *vanishing) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if name == f.table && f.gone.CompareAndSwap(true, false) {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return f.FS.Open(name, o...)
}

func (f *vanishing) Unwrap() vfs.FS { return f.FS }

// TestCutWhileTablesGo: a table that a compaction takes away before it is read is no damage.
func TestCutWhileTablesGo(t *testing.T) {
	const records = 500
	base := writtenState(t, records)
	fs := &vanishing{FS: base, table: findFile(t, base, ".sst")}
	p := &patient{}
	s := openHurt(t, p, fs)
	if n, err := readGroup(t, s, 0); err != nil || n != records { // Pebble itself has it open now
		t.Fatalf("%d records, %v", n, err)
	}
	fs.gone.Store(true)
	cure(t, s, 1)
	if fs.gone.Load() {
		t.Error("the table next to the cut was not read")
	}
	for g, want := range map[GroupID]int{0: records, 1: 7, 2: records, 3: records} {
		if n, err := readGroup(t, s, g); err != nil || n != want {
			t.Errorf("group %d: %d records, %v", g, n, err)
		}
	}
}

// TestNoCutBesideUnknownDamage: a range is not replaced where that would take the records
// of a group along that nobody knows to be damaged.
func TestNoCutBesideUnknownDamage(t *testing.T) {
	const records = 500
	base := writtenState(t, records)
	table := findFile(t, base, ".sst")
	at := straddled(t, base, table, records)[1]
	flip(t, base, table, 8*at)
	p := &patient{}
	cfg := p.config(base)
	cfg.Groups = func() []GroupRange { return []GroupRange{hurtRange(0), hurtRange(1), hurtRange(3)} }
	s, err := OpenState(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	st, err := s.NewStage(1)
	if err != nil {
		t.Fatal(err)
	}
	r := hurtRange(1)
	if err := errors.Join(st.Add(hurtKey(1, 0), hurtValue(1, 0)), st.Seal()); err != nil {
		t.Fatal(err)
	}
	named(t, s.Install(1, r.Lower, r.Upper), "state")
	for _, g := range []GroupID{0, 3} {
		if n, err := readGroup(t, s, g); err != nil || n != records {
			t.Errorf("group %d: %d records, %v", g, n, err)
		}
	}
}
