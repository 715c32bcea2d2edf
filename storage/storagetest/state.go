package storagetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waystation/waystation/storage"
)

func runState(t *testing.T, fresh func(t *testing.T) Disk) {
	for name, test := range map[string]func(t *testing.T, s *storage.State){
		"Get":         testStateGet,
		"Scan":        testStateScan,
		"DeleteRange": testStateDeleteRange,
		"Order":       testStateOrder,
		"Snapshot":    testStateSnapshot,
		"Durable":     testStateDurable,
		"Deferred":    testStateDeferred,
	} {
		t.Run(name, func(t *testing.T) {
			s := openState(t, fresh(t))
			test(t, s)
			must(t, s.Close())
			if err := s.Close(); err != nil {
				t.Fatalf("second close: %v", err)
			}
		})
	}
}

// write commits "key=value" as a set and "-key" as a deletion, in order.
func write(t *testing.T, s *storage.State, ops ...string) {
	t.Helper()
	b := s.NewBatch()
	for _, op := range ops {
		if key, value, ok := strings.Cut(op, "="); ok {
			b.Set([]byte(key), []byte(value))
		} else {
			b.Delete([]byte(op[1:]))
		}
	}
	must(t, b.Commit())
}

func dump(t *testing.T, r storage.Reader, lower, upper string) string {
	t.Helper()
	bound := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	var all []string
	must(t, r.Scan(bound(lower), bound(upper), func(k, v []byte) bool {
		all = append(all, fmt.Sprintf("%s=%s", k, v))
		return true
	}))
	return strings.Join(all, " ")
}

func wantDump(t *testing.T, r storage.Reader, lower, upper, want string) {
	t.Helper()
	if got := dump(t, r, lower, upper); got != want {
		t.Fatalf("scan [%q, %q): %q, want %q", lower, upper, got, want)
	}
}

func testStateGet(t *testing.T, s *storage.State) {
	write(t, s, "a=1", "empty=")
	if v, err := s.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Fatalf("get: %q, %v", v, err)
	}
	if v, err := s.Get([]byte("empty")); err != nil || v == nil || len(v) != 0 {
		t.Fatalf("get of an empty value: %v, %v", v, err)
	}
	if v, err := s.Get([]byte("b")); err != storage.ErrNotFound || v != nil { //nolint:errorlint // it must not be wrapped
		t.Fatalf("get of an absent key: %q, %v", v, err)
	}
	if v, err := s.AppendGet([]byte("x"), []byte("a")); err != nil || string(v) != "x1" {
		t.Fatalf("append: %q, %v", v, err)
	}
	v, err := s.Get([]byte("a"))
	must(t, err)
	v[0] = 'X'
	wantDump(t, s, "a", "b", "a=1")
}

func testStateScan(t *testing.T, s *storage.State) {
	write(t, s, "a=1", "b=2", "b\x00=3", "c=4")
	wantDump(t, s, "", "", "a=1 b=2 b\x00=3 c=4")
	wantDump(t, s, "b", "c", "b=2 b\x00=3")
	wantDump(t, s, "b\x00", "", "b\x00=3 c=4")
	wantDump(t, s, "", "b", "a=1")
	wantDump(t, s, "d", "", "")
	visits := 0
	must(t, s.Scan(nil, nil, func(_, _ []byte) bool { visits++; return visits < 2 }))
	if visits != 2 {
		t.Fatalf("a scan that was stopped visited %d keys", visits)
	}
	// A visit may write: the scan keeps what it began with.
	must(t, s.Scan(nil, nil, func(_, _ []byte) bool { write(t, s, "z=9", "-c"); return true }))
	wantDump(t, s, "", "", "a=1 b=2 b\x00=3 z=9")
}

func testStateDeleteRange(t *testing.T, s *storage.State) {
	write(t, s, "a=1", "b=2", "c=3", "d=4")
	must(t, s.Flush())
	b := s.NewBatch()
	b.Set([]byte("b2"), []byte("x"))
	b.DeleteRange([]byte("b"), []byte("d"))
	b.Set([]byte("c"), []byte("new"))
	must(t, b.Commit())
	wantDump(t, s, "", "", "a=1 c=new d=4")
	must(t, s.Flush())
	wantDump(t, s, "", "", "a=1 c=new d=4")
}

func testStateOrder(t *testing.T, s *storage.State) {
	write(t, s, "a=1", "-a", "a=2", "b=1", "-b")
	wantDump(t, s, "", "", "a=2")
	b := s.NewBatch()
	b.Set([]byte("gone"), nil)
	b.Discard()
	must(t, s.NewBatch().Commit())
	wantDump(t, s, "", "", "a=2")
}

func testStateSnapshot(t *testing.T, s *storage.State) {
	write(t, s, "a=1", "b=1")
	snap := s.Snapshot()
	write(t, s, "a=2", "-b", "c=3")
	must(t, s.Flush())
	wantDump(t, snap, "", "", "a=1 b=1")
	if v, err := snap.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Fatalf("get: %q, %v", v, err)
	}
	if _, err := snap.Get([]byte("c")); err != storage.ErrNotFound { //nolint:errorlint // it must not be wrapped
		t.Fatalf("get of a later key: %v", err)
	}
	must(t, snap.Close())
	wantDump(t, s, "", "", "a=2 c=3")
}

func testStateDurable(t *testing.T, s *storage.State) {
	write(t, s, "a=1")
	must(t, s.Flush())
	write(t, s, "a=2", "b=2")
	old, done := s.Durable()
	must(t, s.Flush())
	fresh, freshDone := s.Durable()
	if got := dump(t, fresh, "", ""); got != "a=2 b=2" {
		t.Fatalf("durable after a flush: %q", got)
	}
	if v, err := fresh.Get([]byte("b")); err != nil || string(v) != "2" {
		t.Fatalf("durable get: %q, %v", v, err)
	}
	// The store may have flushed by itself, but only whole batches, and a view never changes.
	if got := dump(t, old, "", ""); got != "a=1" && got != "a=2 b=2" {
		t.Fatalf("durable before the flush: %q", got)
	} else if again := dump(t, old, "", ""); again != got {
		t.Fatalf("a durable view changed from %q to %q", got, again)
	}
	if _, err := fresh.Get([]byte("c")); err != storage.ErrNotFound { //nolint:errorlint // it must not be wrapped
		t.Fatalf("durable get of an absent key: %v", err)
	}
	done()
	freshDone()
}

func testStateDeferred(t *testing.T, s *storage.State) {
	b := s.NewBatchSize(1 << 20)
	for i := range 1000 {
		k, v := b.SetDeferred(4, 1000)
		copy(k, fmt.Sprintf("%04d", i))
		copy(v, data(uint64(i), 1000))
	}
	if b.Len() < 1_000_000 {
		t.Fatalf("length of a batch with 1 MB: %d", b.Len())
	}
	must(t, b.Commit())
	for i := range 1000 {
		v, err := s.Get(fmt.Appendf(nil, "%04d", i))
		if err != nil || string(v) != string(data(uint64(i), 1000)) {
			t.Fatalf("record %d differs: %v", i, err)
		}
	}
}
