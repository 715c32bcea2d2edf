package storage_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
)

const lossyChild = "WAYSTATION_TEST_LOSSY_SEED"

// TestLossyKill kills processes that keep log and state as the engine does on a lossy disk, at
// moments of no one's choosing. What a process said was acknowledged must be there in the next.
func TestLossyKill(t *testing.T) {
	if seed, err := strconv.ParseUint(os.Getenv(lossyChild), 10, 64); err == nil {
		lossyWorker(t, seed)
		return
	}
	t.Chdir(t.TempDir())
	acked := uint64(0)
	for round := range uint64(8) {
		acked = workUntilKilled(t, round, acked+1+newRNG(round, 13).Uint64N(60))
		startAgain(t, moment{what: fmt.Sprintf("kill %d", round), disk: vfs.Default, acked: acked})
	}
}

// workUntilKilled returns the last entry that was acknowledged.
func workUntilKilled(t *testing.T, seed, until uint64) (acked uint64) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestLossyKill$")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", lossyChild, seed))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Errorf("the worker says %q", lines.Text())
			break
		}
		if acked = n; acked == until {
			_ = child.Process.Kill() // it may have said more by now
		}
	}
	_ = child.Wait() // killed
	if acked < until {
		t.Fatalf("the worker ended at entry %d of %d", acked, until)
	}
	return acked
}

// lossyWorker goes on behind what it finds, until it is killed.
func lossyWorker(t *testing.T, seed uint64) {
	fs := newLossy(t, nil, seed, []int{0, 30, 100}[seed%3])
	if _, err := storage.LockDir(fs, "data"); err != nil {
		t.Fatal(err)
	}
	logConfig, stateConfig := smallLog(fs), smallState(fs)
	logConfig.SegmentBytes, stateConfig.MemTableBytes = 64<<10, 64<<10
	l, err := storage.OpenLog(logConfig)
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.OpenState(stateConfig)
	if err != nil {
		t.Fatal(err)
	}
	_, last := l.Bounds(1)
	for index := appliedOf(t, s) + 1; ; index++ {
		if index > last {
			b := l.NewBatch()
			b.Append(1, []storage.Entry{{Index: index, Term: 1, Data: entryOf(index)}})
			if err := b.Commit(true); err != nil {
				t.Fatal(err)
			}
			fmt.Println(index)
		}
		applied := s.NewBatch()
		applied.Set([]byte("applied"), binary.BigEndian.AppendUint64(nil, index))
		applied.Set(fmt.Appendf(nil, "effect %d", index), make([]byte, 2000))
		if err := applied.Commit(); err != nil {
			t.Fatal(err)
		}
		if index%9 == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if index%4 == 0 {
			view, done := s.Durable()
			b := l.NewBatch()
			b.Truncate(1, storage.Position{Index: appliedOf(t, view), Term: 1})
			if err := b.Commit(false); err != nil {
				t.Fatal(err)
			}
			done()
		}
	}
}
