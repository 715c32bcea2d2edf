package storage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const hurtGroups = 4

func hurtRange(g GroupID) GroupRange {
	return GroupRange{Group: g, Lower: []byte{'g', byte(g)}, Upper: []byte{'g', byte(g) + 1}}
}

func hurtKey(g GroupID, i int) []byte { return fmt.Appendf([]byte{'g', byte(g)}, "%06d", i) }

func hurtValue(g GroupID, i int) []byte {
	return noiseOf(uint64(g)<<32|uint64(i), 100)
}

func noiseOf(seed uint64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}

// patient collects the groups that a state reports as damaged.
type patient struct {
	mu     sync.Mutex
	groups []GroupID
	fatal  error
	told   chan struct{}
}

func (p *patient) config(fs FS) StateConfig {
	p.told = make(chan struct{}, 100)
	c := DefaultStateConfig("log") // where the helpers look
	c.FS, c.Logger = fs, slog.New(slog.DiscardHandler)
	c.CacheBytes, c.MemTableBytes = 1<<20, 4<<20
	c.Groups = func() []GroupRange {
		var all []GroupRange
		for g := range GroupID(hurtGroups) {
			all = append(all, hurtRange(g))
		}
		return all
	}
	c.Damaged = func(d Damage) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !errors.Is(d.Err, ErrCorrupt) {
			p.fatal = fmt.Errorf("damage is reported as %w", d.Err)
		}
		p.groups = append(p.groups, d.Group)
		p.told <- struct{}{}
	}
	c.Fatal = func(err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fatal = err
		p.told <- struct{}{}
	}
	return c
}

func (p *patient) await(t *testing.T, what string) {
	t.Helper()
	select {
	case <-p.told:
	case <-time.After(60 * time.Second):
		t.Fatalf("nobody was told of %s", what)
	}
}

// writtenState is the disk of a state with four groups in one table.
func writtenState(t *testing.T, records int) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s, err := OpenState((&patient{}).config(fs))
	if err != nil {
		t.Fatal(err)
	}
	b := s.NewBatch()
	for g := range GroupID(hurtGroups) {
		for i := range records {
			b.Set(hurtKey(g, i), hurtValue(g, i))
		}
	}
	if err := errors.Join(b.Commit(), s.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	return fs
}

func openHurt(t *testing.T, p *patient, fs FS) *State {
	t.Helper()
	s, err := OpenState(p.config(fs))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// readGroup returns how many records of a group can be read, and fails if one is wrong.
func readGroup(t *testing.T, s *State, g GroupID) (int, error) {
	t.Helper()
	n := 0
	r := hurtRange(g)
	err := s.Scan(r.Lower, r.Upper, func(k, v []byte) bool {
		if !bytes.Equal(k, hurtKey(g, n)) || !bytes.Equal(v, hurtValue(g, n)) {
			t.Fatalf("group %d: record %d is served wrong, as %q", g, n, k)
		}
		n++
		return true
	})
	return n, err
}

// compact makes Pebble read all tables, as it does by itself some time.
func compact(t *testing.T, s *State) error {
	t.Helper()
	return s.kv.(*pebbleKV).db.Compact(t.Context(), []byte{0}, []byte{0xff}, false)
}

// TestDamageFoundByCompaction flips a bit in the records of one group. A compaction that meets it
// ends neither the node nor the other groups, and the group is named.
func TestDamageFoundByCompaction(t *testing.T) {
	const records = 1000
	fs := writtenState(t, records)
	table := findFile(t, fs, ".sst")
	flip(t, fs, table, 8*(fileSize(t, fs, table)*5/8)) // in the third group of four
	p := &patient{}
	s := openHurt(t, p, fs)
	// A second table over the first, or there is nothing to compact.
	b := s.NewBatch()
	b.Set(hurtKey(0, 0), hurtValue(0, 0))
	b.Set(hurtKey(3, 0), hurtValue(3, 0))
	if err := errors.Join(b.Commit(), s.Flush()); err != nil {
		t.Fatal(err)
	}
	if err := compact(t, s); err == nil {
		t.Fatal("a compaction of a damaged table succeeds")
	}
	p.await(t, "the damage")
	for g := range GroupID(hurtGroups) {
		n, err := readGroup(t, s, g)
		if g == 2 {
			named(t, err, "state")
		} else if err != nil || n != records {
			t.Errorf("group %d, which is not hurt: %d records, %v", g, n, err)
		}
	}
	p.mu.Lock()
	if !slices.Equal(p.groups, []GroupID{2}) || p.fatal != nil || s.Fault() != nil {
		t.Errorf("reported: groups %v, fatal %v, fault %v; want group 2 alone", p.groups, p.fatal, s.Fault())
	}
	p.mu.Unlock()
	cure(t, s, 2)
	if err := compact(t, s); err != nil {
		t.Errorf("compaction after the damaged group's range was replaced: %v", err)
	}
	for g := range GroupID(hurtGroups) {
		if n, err := readGroup(t, s, g); err != nil || n != records && g != 2 || g == 2 && n != 7 {
			t.Errorf("group %d at the end: %d records, %v", g, n, err)
		}
	}
	if s.Fault() != nil {
		t.Errorf("fault: %v", s.Fault())
	}
}

// cure installs a snapshot of seven records.
func cure(t *testing.T, s *State, g GroupID) {
	t.Helper()
	st, err := s.NewStage(g)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		err = errors.Join(err, st.Add(hurtKey(g, i), hurtValue(g, i)))
	}
	r := hurtRange(g)
	if err := errors.Join(err, st.Seal(), s.Install(g, r.Lower, r.Upper)); err != nil {
		t.Fatal(err)
	}
}

// TestDamageFoundByRead names the group also if it was a read that met the damage.
func TestDamageFoundByRead(t *testing.T) {
	fs := writtenState(t, 1000)
	table := findFile(t, fs, ".sst")
	flip(t, fs, table, 8*(fileSize(t, fs, table)*3/8))
	p := &patient{}
	s := openHurt(t, p, fs)
	_, err := readGroup(t, s, 1)
	named(t, err, "state")
	p.await(t, "the damage")
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.groups, []GroupID{1}) || p.fatal != nil || s.Fault() != nil {
		t.Errorf("reported: groups %v, fatal %v, fault %v; want group 1 alone", p.groups, p.fatal, s.Fault())
	}
}

// TestDamageOfAll damages a table as a whole, at its end, which says where its other parts are: that
// cannot be put down to any group.
func TestDamageOfAll(t *testing.T) {
	fs := writtenState(t, 1000)
	table := findFile(t, fs, ".sst")
	flip(t, fs, table, 8*(fileSize(t, fs, table)-20))
	p := &patient{}
	s := openHurt(t, p, fs)
	b := s.NewBatch()
	b.Set(hurtKey(0, 0), hurtValue(0, 0))
	b.Set(hurtKey(3, 0), hurtValue(3, 0))
	_ = errors.Join(b.Commit(), s.Flush(), compact(t, s)) // whatever meets it first
	p.await(t, "the damage")
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.groups) != 0 || !errors.Is(p.fatal, ErrCorrupt) || !errors.Is(s.Fault(), ErrCorrupt) {
		t.Errorf("reported: groups %v, fatal %v, fault %v; want ErrCorrupt", p.groups, p.fatal, s.Fault())
	}
}

// TestFlippedBitsEverywhere flips one bit in every 997th byte of every file of a state, closer in small
// ones, opens and reads it all, and compacts it. What is read is right, or it is called damaged.
func TestFlippedBitsEverywhere(t *testing.T) {
	const records = 300
	base := writtenState(t, records)
	files, err := base.List("log")
	if err != nil {
		t.Fatal(err)
	}
	refused, lost, whole := 0, 0, 0
	for _, name := range files {
		path := "log/" + name
		size := fileSize(t, base, path)
		for at := 0; at < size; at += max(1, min(997, size/61)) {
			fs := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: killed().RNG})
			flip(t, fs, path, 8*at+at%8)
			p := &patient{}
			s, err := OpenState(p.config(fs))
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
					t.Errorf("%s byte %d: the open is refused with %v", name, at, err)
				}
				refused++
				continue
			}
			complete := true
			for g := range GroupID(hurtGroups) {
				n, err := readGroup(t, s, g)
				if err != nil {
					named(t, err, "state")
				} else if n != records {
					t.Errorf("%s byte %d: group %d has %d records of %d, and nobody says so", name, at, g, n, records)
				}
				complete = complete && err == nil
				if v, err := s.Get(hurtKey(g, records/2)); err != nil {
					named(t, err, "state")
				} else if !bytes.Equal(v, hurtValue(g, records/2)) {
					t.Errorf("%s byte %d: group %d: a record is served wrong", name, at, g)
				}
			}
			_ = compact(t, s) // it may fail, and must not panic
			_ = s.Close()
			if complete {
				whole++
			} else {
				lost++
			}
		}
	}
	if refused == 0 || lost < 50 || whole == 0 {
		t.Errorf("%d opens refused, %d with losses, %d whole: the test hits too little", refused, lost, whole)
	}
	t.Logf("%d opens refused, %d with losses, %d whole", refused, lost, whole)
}
