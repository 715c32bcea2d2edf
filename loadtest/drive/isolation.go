package drive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
	"github.com/waystation/waystation/loadtest/workload"
)

// isolation compares how soon packets of all other repositories are delivered
// while three get no packets and while they do: one whose worker holds it and
// settles nothing, one that always fails, and one that gets a large share of all
// packets. Phases of the one and of the other kind take turns, at one rate over
// all; figures are medians over the phases of a kind.
type isolation struct {
	r     *run
	every time.Duration
	// stuck, poison and hot are the three, the last of all repositories.
	stuck, poison, hot int
	// phases have the latencies of all others, by turn: with the three in those of odd numbers.
	phases []*report.Latency
	// over ends at the end of the load: then what was stuck or failed is mended.
	over context.Context
	end  context.CancelFunc

	// failures are deliveries of the failing repository whose settlement has no answer yet.
	mu       sync.Mutex
	failures map[delivered]bool
}

// delivered names a delivery within its repository.
type delivered struct{ number, token uint64 }

const (
	// threeRate is how many packets a second the stuck and the failing repository get each.
	threeRate = 10
	// settleIn is the share of a phase, at its beginning, that is not looked at.
	settleIn = 0.1
	// isolationGoal is by how much the others' p99 may grow.
	isolationGoal = 0.1
)

func newIsolation(r *run) *isolation {
	n := len(r.names.repos)
	s := &isolation{r: r, every: r.o.Scenario.Every, stuck: n - 3, poison: n - 2, hot: n - 1, failures: make(map[delivered]bool)}
	s.over, s.end = context.WithCancel(context.Background())
	for range 2 * int(r.o.Duration/(2*s.every)) {
		s.phases = append(s.phases, report.NewLatency())
	}
	r.publisher.stream = &mixed{Stream: r.publisher.stream, s: s, random: rand.New(rand.NewPCG(r.o.Seed, 6))}
	r.worker.first, r.worker.work, r.worker.failed = s.first, s.work, s.failed
	return s
}

// phase is the turn at some time, and how far it is in it; -1 outside of all.
func (s *isolation) phase(at time.Duration) (turn int, in time.Duration) {
	at -= s.r.o.Warmup
	turn = int(at / s.every)
	if at < 0 || turn >= len(s.phases) {
		return -1, 0
	}
	return turn, at % s.every
}

// broken says whether the three are there.
func (s *isolation) broken(at time.Duration) bool {
	turn, _ := s.phase(at)
	return turn >= 0 && turn%2 == 1
}

// mixed gives some packets to the three while they are there, and none else.
type mixed struct {
	workload.Stream

	s      *isolation
	random *rand.Rand
}

// Next is the stream's, for another repository.
func (m *mixed) Next(buf []byte) (workload.Item, error) {
	item, err := m.Stream.Next(buf)
	s := m.s
	if item.Repo >= s.stuck {
		item.Repo -= 3 // all of the others are drawn, these three a little more often
	}
	if err != nil || !s.broken(s.r.clock.now()) {
		return item, err
	}
	few := min(threeRate/s.r.o.Rate, 0.05)
	switch u := m.random.Float64(); {
	case u < few:
		item.Repo = s.stuck
	case u < 2*few:
		item.Repo = s.poison
	case u < 2*few+s.hotShare():
		item.Repo = s.hot
	}
	return item, nil
}

// hotShare of all packets: so many for each of the others'.
func (s *isolation) hotShare() float64 {
	hot := s.r.o.Scenario.Hot
	return hot / (1 + hot)
}

// first takes the latency of the others.
func (s *isolation) first(repo int, due, took time.Duration) {
	turn, in := s.phase(due)
	if turn >= 0 && repo < s.stuck && float64(in) >= settleIn*float64(s.every) {
		s.phases[turn].Record(repo, took)
	}
}

var errPoison = errors.New("this repository always fails")

// work holds the stuck repository for as long as it is there, and fails the failing one.
func (s *isolation) work(ctx context.Context, repo int, d *client.Delivery) error {
	now := s.r.clock.now()
	if s.over.Err() != nil {
		return nil
	}
	turn, in := s.phase(now)
	switch {
	case repo == s.poison:
		s.mu.Lock()
		s.failures[delivered{d.Sequence, d.LeaseToken}] = true
		s.mu.Unlock()
		return errPoison
	case repo == s.stuck && turn%2 == 1:
		timer := time.NewTimer(s.every - in)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-s.over.Done():
		}
	}
	return nil
}

// failed says whether this delivery failed, and forgets it.
func (s *isolation) failed(repo int, number, token uint64) bool {
	if repo != s.poison {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	is := s.failures[delivered{number, token}]
	delete(s.failures, delivered{number, token})
	return is
}

// happen waits for the end of the load: from then on nothing is stuck or fails.
func (s *isolation) happen(ctx context.Context) error {
	defer s.end()
	broken := false
	for next := s.r.o.Warmup; sleep(ctx, next-s.r.clock.now()); next += s.every {
		if now := s.broken(next); now != broken {
			broken = now
			s.r.enter(map[bool]string{false: "load without the three", true: "load with the three"}[now])
		}
	}
	return nil
}

// conclude compares.
func (s *isolation) conclude(*verify.Totals) *report.Scenario {
	made := &report.Scenario{Name: string(s.r.o.Scenario.Name)}
	var p50, p99, most [2][]float64
	lines := [2]report.Series{{Name: "without the three"}, {Name: "with the three"}}
	for i, phase := range s.phases {
		q := phase.Quantiles()
		if q.Max == 0 {
			continue
		}
		k := i % 2
		p50[k], p99[k], most[k] = append(p50[k], q.P50), append(p99[k], q.P99), append(most[k], q.Max)
		at := (s.r.o.Warmup + time.Duration(i)*s.every + s.every/2).Seconds()
		lines[k].Points = append(lines[k].Points, [2]float64{at, q.P99})
	}
	if len(p99[0]) == 0 || len(p99[1]) == 0 {
		made.Missed = append(made.Missed, "nothing to compare")
		return made
	}
	for k, kind := range []string{"without", "with"} {
		made.Set(kind+"_p50_ms", median(p50[k]))
		made.Set(kind+"_p99_ms", median(p99[k]))
		made.Set(kind+"_max_ms", slices.Max(most[k]))
		made.Set(kind+"_phases", float64(len(p99[k])))
	}
	change := median(p99[1])/median(p99[0]) - 1
	made.Set("p99_change", change)
	made.Lines = append(made.Lines, fmt.Sprintf("p99 of all others: %.2f ms without the three, %.2f ms with them (%+.1f%%); medians of %d and %d phases of %v in turn",
		median(p99[0]), median(p99[1]), change*100, len(p99[0]), len(p99[1]), s.every))
	made.Lines = append(made.Lines, fmt.Sprintf("p50 %.2f and %.2f ms; of %.0f packets/s the hot one gets %.0f, the stuck and the failing one %d each",
		median(p50[0]), median(p50[1]), s.r.o.Rate, s.r.o.Rate*s.hotShare(), threeRate))
	made.Plots = append(made.Plots, report.Plot{
		Title: "Published to delivered, p99 of all other repositories, phases in turn", X: "seconds", Y: "ms", Series: lines[:],
	})
	if change > isolationGoal {
		made.Missed = append(made.Missed, fmt.Sprintf("p99 of all others %.0f%% higher beside the three", change*100))
	}
	return made
}

// median of a copy; 0 of none.
func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}
