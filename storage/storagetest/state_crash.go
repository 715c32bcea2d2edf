package storagetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/waystation/waystation/storage"
)

// runStateCrash commits random batches, flushes now and then, and cuts the power. What is
// found must be exactly the state after one of the commits, and no earlier one than the last
// flush, or than what Durable had shown.
func runStateCrash(t *testing.T, fresh func(t *testing.T) Disk) {
	for seed := range uint64(crashSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			d := fresh(t)
			history := []map[string]string{{}}
			for range 4 {
				s := openState(t, d)
				durable := len(history) - 1
				for range r.IntN(40) {
					history = append(history, mutateState(t, r, s, history))
					if r.IntN(10) == 0 {
						must(t, s.Flush())
						durable = len(history) - 1
					}
				}
				wantState(t, s, history[len(history)-1])
				view, done := s.Durable()
				durable = max(durable, commitOf(t, view))
				wantState(t, view, history[commitOf(t, view)])
				done()
				d.Crash(r.Uint64())
				s = openState(t, d)
				found := commitOf(t, s)
				if found < durable {
					t.Fatalf("commit %d was durable, found only %d", durable, found)
				}
				wantState(t, s, history[found])
				must(t, s.Close())
				history = history[:found+1]
			}
		})
	}
}

const commitKey = "commit"

func commitOf(t *testing.T, r storage.Reader) int {
	t.Helper()
	v, err := r.Get([]byte(commitKey))
	if err == storage.ErrNotFound { //nolint:errorlint // it must not be wrapped
		return 0
	}
	must(t, err)
	var n int
	if _, err := fmt.Sscan(string(v), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func mutateState(t *testing.T, r *rand.Rand, s *storage.State, history []map[string]string) map[string]string {
	t.Helper()
	next := maps.Clone(history[len(history)-1])
	b := s.NewBatch()
	set := func(k, v string) {
		b.Set([]byte(k), []byte(v))
		next[k] = v
	}
	for range 1 + r.IntN(6) {
		k := fmt.Sprintf("k%02d", r.IntN(40))
		switch r.IntN(5) {
		case 0:
			b.Delete([]byte(k))
			delete(next, k)
		case 1:
			to := fmt.Sprintf("k%02d", r.IntN(40))
			if to < k {
				k, to = to, k
			}
			b.DeleteRange([]byte(k), []byte(to))
			maps.DeleteFunc(next, func(at, _ string) bool { return at >= k && at < to })
		default:
			set(k, string(data(r.Uint64(), r.IntN(20_000))))
		}
	}
	set(commitKey, fmt.Sprint(len(history)))
	must(t, b.Commit())
	return next
}

func wantState(t *testing.T, r storage.Reader, want map[string]string) {
	t.Helper()
	left := slices.Sorted(maps.Keys(want))
	must(t, r.Scan(nil, nil, func(k, v []byte) bool {
		if len(left) == 0 || left[0] != string(k) || want[left[0]] != string(v) {
			t.Fatalf("found key %q with %d bytes, want %s", k, len(v), strings.Join(left, " "))
		}
		left = left[1:]
		return true
	}))
	if len(left) > 0 {
		t.Fatalf("missing: %s", strings.Join(left, " "))
	}
	for k, v := range want {
		if got, err := r.Get([]byte(k)); err != nil || string(got) != v {
			t.Fatalf("get %q: %d bytes, %v, want %d bytes", k, len(got), err, len(v))
		}
	}
}
