package storagetest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/waystation/waystation/storage"
)

// families is a state whose writers keep to one family of keys each, as replicas do: what was
// committed is found by get and by scan at once, and after a crash each family is as one of its
// commits left it, none earlier than the last flush.
type families struct {
	r       *rand.Rand
	s       *storage.State
	history [familyCount][]map[string]string // after each commit
	durable [familyCount]int
}

const familyCount = 3

func runStateFamilies(t *testing.T, fresh func(t *testing.T) Disk) {
	for seed := range uint64(crashSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := fresh(t)
			f := &families{r: rand.New(rand.NewPCG(seed, 4))}
			for i := range f.history {
				f.history[i] = []map[string]string{{}}
			}
			for range 4 {
				f.s = openState(t, d)
				f.recover(t)
				for range f.r.IntN(60) {
					f.step(t)
				}
				f.check(t)
				d.Crash(f.r.Uint64())
			}
			f.s = openState(t, d)
			f.recover(t)
			must(t, f.s.Close())
		})
	}
}

func familyPrefix(i int) []byte { return []byte{0, byte(i)} }

func familyMark(i int) []byte { return append(familyPrefix(i), "commit"...) }

// recover finds the commit that each family is at.
func (f *families) recover(t *testing.T) {
	t.Helper()
	for i := range f.history {
		n := 0
		if v, err := f.s.Get(familyMark(i)); err == nil {
			n = int(binary.BigEndian.Uint32(v))
		}
		if n < f.durable[i] || n >= len(f.history[i]) {
			t.Fatalf("family %d: found commit %d of %d, %d was durable", i, n, len(f.history[i])-1, f.durable[i])
		}
		f.history[i] = f.history[i][:n+1]
	}
	f.check(t)
}

func (f *families) step(t *testing.T) {
	t.Helper()
	i := f.r.IntN(familyCount)
	switch f.r.IntN(30) {
	case 0:
		must(t, f.s.Flush())
		for i := range f.history {
			f.durable[i] = len(f.history[i]) - 1
		}
	case 1:
		f.snapshots(t, i)
	case 2, 3, 4:
		f.checkFamily(t, i, f.s)
	default:
		f.commit(t, i)
	}
}

// commit writes to a family; now and then so much that the batch goes a way of its own.
func (f *families) commit(t *testing.T, i int) {
	t.Helper()
	r := f.r
	next := maps.Clone(f.history[i][len(f.history[i])-1])
	b := f.s.NewBatch()
	for range 1 + r.IntN(8) {
		k := string(append(familyPrefix(i), fmt.Sprintf("%c%02d", 'a'+r.IntN(3), r.IntN(30))...))
		_, has := next[k]
		switch n := r.IntN(12); {
		case n < 4:
			b.Delete([]byte(k))
			delete(next, k)
		case n == 4 && r.IntN(4) == 0:
			to := k[:3] + "99"
			b.DeleteRange([]byte(k), []byte(to))
			maps.DeleteFunc(next, func(at, _ string) bool { return at >= k && at < to })
		default:
			size := r.IntN(40)
			if r.IntN(50) == 0 {
				size = 200 << 10
			}
			v := data(r.Uint64(), size)
			if next[k] = string(v); has {
				b.Set([]byte(k), v)
			} else {
				b.SetNew([]byte(k), v)
			}
		}
	}
	mark := binary.BigEndian.AppendUint32(nil, uint32(len(f.history[i])))
	b.Set(familyMark(i), mark)
	next[string(familyMark(i))] = string(mark)
	must(t, b.Commit())
	f.history[i] = append(f.history[i], next)
}

// snapshots show what was committed, and nothing that comes later.
func (f *families) snapshots(t *testing.T, i int) {
	t.Helper()
	all, one := f.s.Snapshot(), f.s.SnapshotRange(familyPrefix(i), familyPrefix(i+1))
	at := len(f.history[i]) - 1
	f.commit(t, i)
	last := f.history[i]
	f.history[i] = last[:at+1]
	f.checkFamily(t, i, all)
	f.checkFamily(t, i, one)
	f.history[i] = last
	must(t, all.Close())
	must(t, one.Close())
}

func (f *families) check(t *testing.T) {
	t.Helper()
	whole := map[string]string{}
	for i := range f.history {
		f.checkFamily(t, i, f.s)
		maps.Copy(whole, f.history[i][len(f.history[i])-1])
	}
	wantState(t, f.s, whole)
}

func (f *families) checkFamily(t *testing.T, i int, r storage.Reader) {
	t.Helper()
	want := f.history[i][len(f.history[i])-1]
	for _, bounds := range [][2]string{{"", "\xff"}, {"a", "b"}, {"b", "c"}, {"b1", "b2"}, {"a2", "c1"}, {"c", "c29"}} {
		lower, upper := string(familyPrefix(i))+bounds[0], string(familyPrefix(i))+bounds[1]
		var left []string
		for k := range want {
			if k >= lower && k < upper {
				left = append(left, k)
			}
		}
		slices.Sort(left)
		must(t, r.Scan([]byte(lower), []byte(upper), func(k, v []byte) bool {
			if len(left) == 0 || left[0] != string(k) || want[left[0]] != string(v) {
				t.Fatalf("scan [%x, %x): found %x with %d bytes, want %x", lower, upper, k, len(v), left)
			}
			left = left[1:]
			return true
		}))
		if len(left) > 0 {
			t.Fatalf("scan [%x, %x): missing %x", lower, upper, left)
		}
	}
	for k := range 30 {
		key := string(append(familyPrefix(i), fmt.Sprintf("b%02d", k)...))
		v, err := r.Get([]byte(key))
		if old, has := want[key]; has != (err == nil) || old != string(v) {
			t.Fatalf("get %x: %d bytes, %v, want %d bytes", key, len(v), err, len(old))
		}
	}
}
