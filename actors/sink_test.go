package actors

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// patience is how long a test waits for what must happen. It is long, because it
// is only used up by a test that fails.
const patience = 30 * time.Second

// await waits until cond holds. It polls, because what it waits for has no one
// place that could tell.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("gave up waiting for: %s", what)
		}
	}
}

// answered is a PublishResult that may be kept.
type answered struct {
	repo, id       string
	seq            repository.Seq
	duplicate      bool
	contentDiffers bool
	refusal        *Refusal
}

func (a answered) code() string {
	if a.refusal == nil {
		return "OK"
	}
	return a.refusal.Code
}

// testSink keeps answers, and fails the test on a second one for a packet.
type testSink struct {
	t     testing.TB
	mu    sync.Mutex
	got   map[uint64]answered
	calls int
}

func newSink(t testing.TB) *testSink { return &testSink{t: t, got: map[uint64]answered{}} }

func (s *testSink) Results(rs []PublishResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	for i := range rs {
		r := &rs[i]
		if old, twice := s.got[r.Index]; twice {
			s.t.Errorf("packet %d answered twice: %+v, then %+v", r.Index, old, *r)
		}
		s.got[r.Index] = answered{string(r.Repo), string(r.ID), r.Seq, r.Duplicate, r.ContentDiffers, r.Refusal}
	}
}

func (s *testSink) answer(i uint64) (answered, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.got[i]
	return a, ok
}

func (s *testSink) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *testSink) await(i uint64) answered {
	s.t.Helper()
	await(s.t, fmt.Sprintf("answer to packet %d", i), func() bool { _, ok := s.answer(i); return ok })
	a, _ := s.answer(i)
	return a
}
