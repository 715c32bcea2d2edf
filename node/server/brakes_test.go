package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// TestBrakedShare: the nearer to the limit, the greater the part of the time in
// which packets are refused, with the delay until they are taken; some always are.
func TestBrakedShare(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	last := -1
	for _, strain := range []float64{0, 0.1, 0.5, 0.8, 1} {
		refused := 0
		for i := range 200 {
			now := begin.Add(time.Duration(i) * time.Millisecond)
			wait := braked(strain, now)
			if wait > 0 {
				refused++
				if braked(strain, now.Add(wait)) != 0 {
					t.Fatalf("strain %v: %v later it is refused again", strain, wait)
				}
			}
		}
		if refused <= last || refused > 176 {
			t.Errorf("strain %v: refused in %d of 200 ms, %d with less", strain, refused, last)
		}
		last = refused
	}
}

// TestBrakesAskForVoters: it is the voters' disks that count, one is enough.
func TestBrakesAskForVoters(t *testing.T) {
	full, strained := map[identity.NodeID]bool{}, 0.0
	b := brakes{
		voters: func(g storage.GroupID) []identity.NodeID { return []identity.NodeID{{1}, {byte(g)}} },
		low:    func(n identity.NodeID) bool { return full[n] },
		strain: func(storage.GroupID) float64 { return strained },
	}
	if b.why(2) != nil {
		t.Error("refused for nothing")
	}
	full[identity.NodeID{2}] = true
	if why := b.why(2); why == nil || why() == nil || why().RetryAfter <= 0 || b.why(3) != nil {
		t.Error("a voter's disk does not count, or another one's does")
	}
	strained = 1
	why := b.why(3)
	if why == nil {
		t.Fatal("not slowed down")
	}
	for end := time.Now().Add(30 * time.Second); why() == nil; {
		if time.Now().After(end) {
			t.Fatal("never refused")
		}
	}
}

// TestBallast: it is made where there is plenty of room, of real bytes, and given
// up for a start on a full disk.
func TestBallast(t *testing.T) {
	dir, free := t.TempDir(), int64(1<<30)
	measure := func(string) (int64, bool) { return free, true }
	const reserve = 4 << 20
	d, err := newDisk(dir, reserve, measure, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, ballastFile))
	if err != nil || info.Size() != reserve/hardShare {
		t.Fatalf("the ballast: %v, %v", info, err)
	}
	for _, x := range []struct {
		free      int64
		low, full bool
	}{{reserve - 1, true, false}, {reserve/hardShare - 1, true, true}, {reserve, false, false}} {
		free = x.free
		d.look()
		if d.low.Load() != x.low || d.full() != x.full || d.headroom() != x.free-reserve || (d.trouble() == "") == x.low {
			t.Errorf("%d bytes: low %v, full %v, headroom %d, %q", x.free, d.low.Load(), d.full(), d.headroom(), d.trouble())
		}
	}
	if d.room(1) == nil {
		t.Error("there is room for a snapshot in the reserve")
	}
	releaseBallast(dir, reserve, measure, d.logger)
	if _, err := os.Stat(filepath.Join(dir, ballastFile)); err != nil {
		t.Errorf("it was given up with room left: %v", err)
	}
	free = 1000
	releaseBallast(dir, reserve, measure, d.logger)
	if _, err := os.Stat(filepath.Join(dir, ballastFile)); err == nil {
		t.Error("it was not given up")
	}
}
