package drive

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
	"github.com/waystation/waystation/loadtest/workload"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// backlog has packets wait in few lanes, then workers come; then the same with
// many lanes. The group is there before the packets are.
type backlog struct {
	r      *run
	stages []*stage
	// firstAt is when the first delivery of the stage was, 0 before.
	firstAt atomic.Int64
	// left is how many packets were left waiting at the end. Of looked lanes with such packets
	// the relay had lost so many.
	left, lost int64
	looked     int
}

// stage is one of the two backlogs and what was seen of it.
type stage struct {
	name        string
	from, lanes int
	packets     int
	filled      time.Duration
	// first is the time from the workers' begin to the first delivery.
	first time.Duration
	// early and rate are settled/s since then: over as many as the small one has, and over
	// watched, all that was looked at.
	early, rate float64
	watched     time.Duration
	points      [][2]float64
}

func newBacklog(r *run) *backlog {
	small := r.o.SmallLanes()
	b := &backlog{r: r}
	b.stages = []*stage{
		{name: "small", from: 0, lanes: small, packets: small * r.o.Scenario.Depth},
		{name: "large", from: small, lanes: r.o.Repos, packets: r.o.Repos * r.o.Scenario.Depth},
	}
	r.publisher.backlog = 0
	r.worker.first = func(int, time.Duration, time.Duration) { b.firstAt.CompareAndSwap(0, int64(r.clock.now())) }
	return b
}

// happen has nothing to do: it is all in run.
func (b *backlog) happen(context.Context) error { return nil }

// run goes through the stages.
func (b *backlog) run(ctx context.Context) error {
	r := b.r
	api, _ := r.direct.api()
	// Who asks for packets makes the group; there are none yet.
	if _, err := api.Pull(ctx, &waystationv1.PullRequest{Group: r.names.group, Max: 1, Worker: r.names.group}); err != nil {
		return fmt.Errorf("make group: %w", err)
	}
	r.spawn(&r.background, func() error { return r.resend(ctx) })
	begin := r.clock.now()
	before := r.usage()
	for _, s := range b.stages {
		if err := b.fill(ctx, s); err != nil {
			return err
		}
		if err := b.work(ctx, s); err != nil {
			return err
		}
	}
	r.account(before)
	live := r.verifier.Live()
	r.figures.Measured, r.figures.Acked, r.figures.Settled = r.clock.now()-begin, live.Acked, live.Settled
	return b.look(ctx)
}

// laneByLane is a stream of so many packets, depth to each lane before the next one.
type laneByLane struct {
	workload.Stream

	from, depth, n, packets int
	end                     context.CancelFunc
}

// Next is the stream's, for the lane whose turn it is.
func (t *laneByLane) Next(buf []byte) (workload.Item, error) {
	item, err := t.Stream.Next(buf)
	item.Repo = t.from + t.n/t.depth
	t.n++
	if t.n == t.packets {
		t.end()
	}
	return item, err
}

// fill publishes the stage's packets.
func (b *backlog) fill(ctx context.Context, s *stage) error {
	r := b.r
	r.enter(fmt.Sprintf("filling %d lanes", s.lanes))
	filling, end := context.WithCancel(ctx)
	defer end()
	begin := r.clock.now()
	r.publisher.stream = &laneByLane{Stream: r.cfg.Stream, from: s.from, depth: r.o.Scenario.Depth, packets: s.packets, end: end}
	if err := r.publisher.run(filling); err != nil {
		return err
	}
	r.flush(ctx)
	s.filled = r.clock.now() - begin
	return ctx.Err()
}

// backlogLook is the time between two looks at a stage's progress.
const backlogLook = 20 * time.Millisecond

// work lets the workers come, and watches until they are through, or long enough
// in the last stage.
func (b *backlog) work(ctx context.Context, s *stage) error {
	r := b.r
	r.enter(fmt.Sprintf("working off %d lanes", s.lanes))
	b.firstAt.Store(0)
	from, begin := r.verifier.Live().Settled, r.clock.now()
	stop := r.startWorkers(ctx)
	defer stop()
	limit, over := context.WithTimeout(ctx, r.o.Drain)
	defer over()
	total := int64(b.stages[0].packets)
	for r.verifier.Live().Open > 0 && sleep(limit, backlogLook) {
		now, done := r.clock.now(), r.verifier.Live().Settled-from
		first := time.Duration(b.firstAt.Load())
		if first == 0 {
			continue
		}
		s.first = first - begin
		past := (now - first).Seconds()
		s.points = append(s.points, [2]float64{past, float64(done)})
		if s.early == 0 && done >= total*9/10 {
			s.early = float64(done) / past
		}
		// The end, when lanes run dry, is not looked at.
		if done <= int64(s.packets)*9/10 {
			s.rate, s.watched = float64(done)/past, now-first
		}
	}
	if s.rate == 0 {
		s.rate = s.early
	}
	return ctx.Err()
}

// backlogLanes are looked at, of what was left waiting.
const backlogLanes = 1000

// look asks the relay about lanes with packets left: none may be missing.
func (b *backlog) look(ctx context.Context) error {
	r := b.r
	if err := r.ask(ctx); err != nil {
		return err
	}
	if b.left = r.verifier.Live().Open; b.left == 0 {
		return nil
	}
	r.enter("looking at what is left")
	random := rand.New(rand.NewPCG(r.o.Seed, 7))
	for range backlogLanes {
		repo := random.IntN(len(r.names.repos))
		open := int64(r.verifier.Unsettled(repo))
		if open == 0 {
			continue
		}
		info, err := r.sending.Repository(ctx, r.names.repos[repo])
		if err != nil && client.ErrorCode(err) != client.CodeNotFound {
			return err
		}
		b.looked++
		if info != nil {
			open -= int64(info.Backlog)
		}
		b.lost += max(0, open)
	}
	return nil
}

const (
	// backlogFirst is how soon delivery begins, backlogShare what is left of the speed at
	// least: two runs over the small backlog differ by as much.
	backlogFirst = time.Second
	backlogShare = 0.8
)

// conclude compares the stages. What is left waiting is not lost: lanes of it were looked at.
func (b *backlog) conclude(t *verify.Totals) *report.Scenario {
	if b.left > 0 {
		t.Lost = b.lost
	}
	made := &report.Scenario{Name: string(b.r.o.Scenario.Name)}
	plot := report.Plot{Title: "Settled since the first delivery", X: "seconds", Y: "packets"}
	for _, s := range b.stages {
		made.Set(s.name+"_packets", float64(s.packets))
		made.Set(s.name+"_lanes", float64(s.lanes))
		made.Set(s.name+"_fill_per_s", float64(s.packets)/max(s.filled.Seconds(), 1e-9))
		made.Set(s.name+"_first_ms", float64(s.first.Microseconds())/1000)
		made.Set(s.name+"_settled_per_s", s.rate)
		made.Set(s.name+"_early_settled_per_s", s.early)
		made.Lines = append(made.Lines, fmt.Sprintf("%d packets in %d lanes (published in %.1f s): first delivery %.0f ms after the workers came; %.0f settled/s over %.1f s",
			s.packets, s.lanes, s.filled.Seconds(), float64(s.first.Microseconds())/1000, s.rate, s.watched.Seconds()))
		plot.Series = append(plot.Series, report.Series{Name: fmt.Sprintf("%d packets in %d lanes", s.packets, s.lanes), Points: thin(s.points)})
		if s.first > backlogFirst || s.first == 0 {
			made.Missed = append(made.Missed, fmt.Sprintf("first delivery of %d packets after %v", s.packets, s.first.Round(time.Millisecond)))
		}
	}
	small, large := b.stages[0], b.stages[1]
	share := large.rate / max(small.rate, 1e-9)
	made.Set("large_of_small", share)
	made.Lines = append(made.Lines, fmt.Sprintf("speed of the large backlog: %.2f of the small one's; over its first %d packets %.2f",
		share, small.packets*9/10, large.early/max(small.early, 1e-9)))
	if share < backlogShare {
		made.Missed = append(made.Missed, fmt.Sprintf("%.2f of the speed with the larger backlog", share))
	}
	if b.left > 0 {
		made.Set("left", float64(b.left))
		made.Lines = append(made.Lines, fmt.Sprintf("%d packets were left waiting; the relay has all of those of %d lanes that were looked at, but %d", b.left, b.looked, b.lost))
	}
	made.Plots = append(made.Plots, plot)
	return made
}

// thin leaves few points of many.
func thin(points [][2]float64) (some [][2]float64) {
	const most = 200
	step := len(points)/most + 1
	for i := 0; i < len(points); i += step {
		some = append(some, points[i])
	}
	return some
}
