package actors

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// supervisor restarts failed repository actors after min·2ⁿ with a cap and
// jitter; the library's "exponential" strategy is linear and has no cap. One is
// shared by all actors of a relay: it is called from the failing actor's own
// goroutine, so that a storm in one delays no other.
type supervisor struct {
	relay *Relay

	mu     sync.Mutex
	closed bool
	timers map[*time.Timer]struct{}
}

func newSupervisor(r *Relay) *supervisor {
	return &supervisor{relay: r, timers: make(map[*time.Timer]struct{})}
}

// HandleFailure is called when an actor has panicked. Its mailbox is suspended.
func (s *supervisor) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics, _, _ any) {
	cfg := &s.relay.cfg
	if rs.NumberOfFailures(cfg.FailureWindow) == 0 {
		rs.Reset()
	}
	rs.Fail()
	failures := rs.FailureCount()
	r := s.relay.residentOf(child)
	if failures >= cfg.ParkAfter && r != nil {
		s.relay.logger.Error("repository parked: its actor keeps failing",
			"repository", string(r.repo), "failures", failures)
		r.partition.actors.park(r)
		return
	}
	s.after(backoff(failures, cfg.RestartMin, cfg.RestartMax, rand.Float64()), func() {
		s.relay.metrics.restarts.Inc()
		sup.RestartChildren(child)
	})
}

// backoff is the delay before the restart after so many failures: least·2ⁿ, at
// most limit, and ± 20 % by jitter in [0,1).
func backoff(failures int, least, limit time.Duration, jitter float64) time.Duration {
	d := least
	for i := 1; i < failures && d < limit; i++ {
		d *= 2
	}
	d = min(d, limit)
	return time.Duration(float64(d) * (0.8 + 0.4*jitter))
}

func (s *supervisor) after(d time.Duration, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		s.mu.Lock()
		_, ours := s.timers[t]
		delete(s.timers, t)
		s.mu.Unlock()
		if ours {
			f()
		}
	})
	s.timers[t] = struct{}{}
}

// close cancels the restarts that are due.
func (s *supervisor) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for t := range s.timers {
		t.Stop()
		delete(s.timers, t)
	}
}
