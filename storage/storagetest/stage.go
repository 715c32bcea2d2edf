package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/waystation/waystation/storage"
)

func runStage(t *testing.T, fresh func(t *testing.T) Disk) {
	for name, test := range map[string]func(t *testing.T, d Disk){
		"Install":       testInstall,
		"InstallEmpty":  testInstallEmpty,
		"Refused":       testStageRefused,
		"Replaced":      testStageReplaced,
		"Restart":       testStageRestart,
		"Large":         testStageLarge,
		"SnapshotRange": testSnapshotRange,
		"Transfer":      testTransfer,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

// stage stages "key=value" records in order, and seals them.
func stage(t *testing.T, s *storage.State, g storage.GroupID, records ...string) {
	t.Helper()
	st, err := s.NewStage(g)
	must(t, err)
	for _, r := range records {
		key, value, _ := bytes.Cut([]byte(r), []byte("="))
		must(t, st.Add(key, value))
	}
	must(t, st.Seal())
}

func install(t *testing.T, s *storage.State, g storage.GroupID, lower, upper string) {
	t.Helper()
	must(t, s.Install(g, []byte(lower), []byte(upper)))
	if s.Staged(g) {
		t.Fatalf("group %d is still staged after its install", g)
	}
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func testInstall(t *testing.T, d Disk) {
	s := openState(t, d)
	write(t, s, "a1=old", "b1=old", "b2=old", "b3=old", "c1=old")
	must(t, s.Flush())
	write(t, s, "b2=newer", "-b3", "b4=memory", "c2=memory")
	stage(t, s, 3, "b2=staged", "b5=", "b6=staged")
	wantDump(t, s, "", "", "a1=old b1=old b2=newer b4=memory c1=old c2=memory")
	if !s.Staged(3) || s.Staged(4) {
		t.Fatalf("staged: %v %v", s.Staged(3), s.Staged(4))
	}
	install(t, s, 3, "b", "c")
	want := "a1=old b2=staged b5= b6=staged c1=old c2=memory"
	wantDump(t, s, "", "", want)
	view, done := s.Durable()
	wantDump(t, view, "b", "c", "b2=staged b5= b6=staged")
	done()
	write(t, s, "b5=applied", "-b6")
	wantDump(t, s, "b", "c", "b2=staged b5=applied")
	stage(t, s, 3, "b1=again")
	install(t, s, 3, "b", "c")
	d.Crash(1)
	s = openState(t, d)
	wantDump(t, s, "b", "c", "b1=again")
	must(t, s.Close())
}

func testInstallEmpty(t *testing.T, d Disk) {
	s := openState(t, d)
	write(t, s, "a1=1", "b1=1", "b2=1", "c1=1")
	stage(t, s, 0)
	install(t, s, 0, "b", "c")
	wantDump(t, s, "", "", "a1=1 c1=1")
	stage(t, s, 0, "b7=7")
	install(t, s, 0, "b", "c")
	wantDump(t, s, "", "", "a1=1 b7=7 c1=1")
	must(t, s.Close())
}

func testStageRefused(t *testing.T, d Disk) {
	s := openState(t, d)
	write(t, s, "a=1", "b=1")
	wantIs(t, s.Install(1, []byte("a"), []byte("b")), storage.ErrNotFound)
	st, err := s.NewStage(1)
	must(t, err)
	must(t, st.Add([]byte("b"), []byte("x")))
	wantIs(t, st.Add([]byte("b"), nil), storage.ErrOrder)
	wantIs(t, st.Add([]byte("a"), nil), storage.ErrOrder)
	wantIs(t, s.Install(1, []byte("a"), []byte("c")), storage.ErrNotFound)
	must(t, st.Seal())
	wantIs(t, st.Add([]byte("c"), nil), storage.ErrClosed)
	wantIs(t, st.Seal(), storage.ErrClosed)
	wantIs(t, s.Install(1, []byte("a"), []byte("b")), storage.ErrRange)
	wantIs(t, s.Install(1, []byte("b\x00"), []byte("c")), storage.ErrRange)
	wantIs(t, s.Install(2, []byte("a"), []byte("c")), storage.ErrNotFound)
	wantDump(t, s, "", "", "a=1 b=1")
	must(t, s.DropStage(1))
	must(t, s.DropStage(1))
	wantIs(t, st.Discard(), storage.ErrClosed)
	wantIs(t, s.Install(1, []byte("a"), []byte("c")), storage.ErrNotFound)
	must(t, s.Close())
}

// testStageReplaced begins a stage where another one was left: only the last one counts.
func testStageReplaced(t *testing.T, d Disk) {
	s := openState(t, d)
	first, err := s.NewStage(1)
	must(t, err)
	must(t, first.Add([]byte("a"), []byte("first")))
	second, err := s.NewStage(1)
	must(t, err)
	wantIs(t, first.Add([]byte("b"), nil), storage.ErrClosed)
	wantIs(t, first.Seal(), storage.ErrClosed)
	wantIs(t, first.Discard(), storage.ErrClosed)
	must(t, second.Add([]byte("a"), []byte("second")))
	must(t, second.Seal())
	third, err := s.NewStage(1)
	must(t, err)
	if s.Staged(1) {
		t.Fatal("an earlier stage is staged beside a new one")
	}
	must(t, third.Discard())
	stage(t, s, 1, "a=fourth")
	stage(t, s, 2, "b=other")
	install(t, s, 1, "a", "b")
	install(t, s, 2, "b", "c")
	wantDump(t, s, "", "", "a=fourth b=other")
	must(t, s.Close())
}

// testStageRestart loses power beside stages: what was sealed is kept, the rest is gone.
func testStageRestart(t *testing.T, d Disk) {
	for seed := range uint64(8) {
		s := openState(t, d)
		stage(t, s, 1, "a=sealed", "b=sealed")
		st, err := s.NewStage(2)
		must(t, err)
		must(t, st.Add([]byte("c"), data(seed, 100_000)))
		stage(t, s, 3, "d=dropped")
		must(t, s.DropStage(3))
		d.Crash(seed)
		s = openState(t, d)
		if !s.Staged(1) || s.Staged(2) || s.Staged(3) {
			t.Fatalf("staged after a restart: %v %v %v", s.Staged(1), s.Staged(2), s.Staged(3))
		}
		install(t, s, 1, "a", "c")
		wantDump(t, s, "", "", "a=sealed b=sealed")
		must(t, s.Close())
	}
}

func testStageLarge(t *testing.T, d Disk) {
	s := openState(t, d)
	b := s.NewBatch()
	for i := range 3000 {
		b.Set(fmt.Appendf(nil, "g%05d", i*2), data(uint64(i), 100))
	}
	must(t, b.Commit())
	st, err := s.NewStage(1)
	must(t, err)
	for i := range 4000 {
		must(t, st.Add(fmt.Appendf(nil, "g%05d", i), data(uint64(i)+7, 1000)))
	}
	if st.Keys() != 4000 || st.Bytes() != 4000*1006 {
		t.Fatalf("staged %d keys and %d bytes", st.Keys(), st.Bytes())
	}
	must(t, st.Seal())
	install(t, s, 1, "g", "h")
	next := 0
	must(t, s.Scan(nil, nil, func(k, v []byte) bool {
		if string(k) != fmt.Sprintf("g%05d", next) || !bytes.Equal(v, data(uint64(next)+7, 1000)) {
			t.Fatalf("record %d: found key %s", next, k)
		}
		next++
		return true
	}))
	if next != 4000 {
		t.Fatalf("found %d records", next)
	}
	must(t, s.Close())
}

// testSnapshotRange reads a range as it was, through writes, flushes, and replacements of its own
// range and of its neighbours'.
func testSnapshotRange(t *testing.T, d Disk) {
	for _, flushed := range []bool{false, true} {
		s := openState(t, d)
		stage(t, s, 9)
		install(t, s, 9, "a", "d")
		write(t, s, "a1=1", "b1=1", "b2=1", "c1=1")
		if flushed {
			must(t, s.Flush())
		}
		snap := s.SnapshotRange([]byte("b"), []byte("c"))
		check := func() {
			t.Helper()
			wantDump(t, snap, "", "", "b1=1 b2=1")
			wantDump(t, snap, "b2", "c", "b2=1")
			if v, err := snap.Get([]byte("b1")); err != nil || string(v) != "1" {
				t.Fatalf("get: %q, %v", v, err)
			}
			if _, err := snap.Get([]byte("b3")); err != storage.ErrNotFound { //nolint:errorlint // it must not be wrapped
				t.Fatalf("get of a later key: %v", err)
			}
		}
		check()
		write(t, s, "b1=2", "-b2", "b3=2")
		check()
		must(t, s.Flush())
		check()
		stage(t, s, 1, "a1=new")
		install(t, s, 1, "a", "b")
		check()
		stage(t, s, 2, "b2=new", "b4=new")
		install(t, s, 2, "b", "c")
		check()
		wantDump(t, s, "", "", "a1=new b2=new b4=new c1=1")
		for _, outside := range []string{"a1", "c", "d"} {
			_, err := snap.Get([]byte(outside))
			wantIs(t, err, storage.ErrRange)
		}
		wantIs(t, snap.Scan([]byte("a"), []byte("b"), nil), storage.ErrRange)
		must(t, snap.Close())
		must(t, s.Close())
	}
}

// testTransfer carries a range from one state into another as a snapshot is carried.
func testTransfer(t *testing.T, d Disk) {
	s := openState(t, d)
	write(t, s, "a=1", "b1=1", "b2=2", "b3="+string(data(1, 300_000)), "c=1")
	snap := s.SnapshotRange([]byte("b"), []byte("c"))
	var stream bytes.Buffer
	sent, err := storage.ExportRange(&stream, snap, nil, nil)
	must(t, err)
	must(t, snap.Close())
	want := dump(t, s, "b", "c")
	write(t, s, "b1=other", "-b2", "b4=other")
	st, err := s.NewStage(1)
	must(t, err)
	got, err := storage.ImportRange(&stream, st)
	must(t, err)
	if got != sent || got.Keys != 3 || got.Bytes != 300_008 {
		t.Fatalf("sent %+v, got %+v", sent, got)
	}
	must(t, st.Seal())
	install(t, s, 1, "b", "c")
	wantDump(t, s, "b", "c", want)
	must(t, s.Close())
}
