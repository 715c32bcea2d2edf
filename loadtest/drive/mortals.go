package drive

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
)

// mortals are workers of whom half die at once, again and again, each with
// connections of its own. Others, with other names, take their place at once. A
// handler takes its time, so that there is something to die over.
type mortals struct {
	r        *run
	every    time.Duration
	holders  *verify.Holders
	settled  *timeline
	takeover *report.Latency

	// sessions are all that were ever begun.
	sessions sync.WaitGroup
	ctx      context.Context // of the workers, set by start

	mu     sync.Mutex
	living []*mortal
	born   int
	deaths []death
}

// mortal is one worker.
type mortal struct {
	id   int
	line *lifeline
	// dead is closed when it dies.
	dead chan struct{}
	of   *mortals
	// ctx is its life's, cancel ends it.
	ctx    context.Context
	cancel context.CancelFunc
}

// death is when half of them died, and how many repositories they held.
type death struct {
	at   time.Duration
	died int
	held int
}

// mortalWork is how long a handler takes.
const mortalWork = 10 * time.Millisecond

func newMortals(r *run) *mortals {
	m := &mortals{
		r: r, every: r.o.Scenario.Every, holders: verify.NewHolders(), takeover: report.NewLatency(),
		settled: newTimeline(r.o.Warmup + r.o.Duration + r.o.Drain),
	}
	r.mortals = m
	return m
}

// start begins with as many as there are to be workers; stop ends those that live
// in order, and waits for all.
func (m *mortals) start(ctx context.Context) (stop func()) {
	working, cancel := context.WithCancel(ctx)
	m.ctx = working
	m.mu.Lock()
	for range m.r.o.Workers {
		m.bear()
	}
	m.mu.Unlock()
	return func() {
		cancel()
		m.sessions.Wait()
	}
}

// bear starts one more. It is called under mu.
func (m *mortals) bear() {
	w := &mortal{id: m.born, line: newLifeline(), dead: make(chan struct{}), of: m}
	w.ctx, w.cancel = context.WithCancel(m.ctx)
	m.born++
	m.living = append(m.living, w)
	m.r.spawn(&m.sessions, w.live)
}

// live works until the end, its own or that of the run.
func (w *mortal) live() error {
	defer w.cancel()
	r := w.of.r
	c, err := client.Dial(w.ctx, r.cfg.Targets, client.WithDialer(w.line.dial), client.WithConnections(1),
		client.WithObserver(client.Observer{OnSettled: w.settled}))
	if err != nil {
		return w.unlessOver(err)
	}
	ended, closed := make(chan struct{}), make(chan struct{})
	go func() { // the dead don't drain
		defer close(closed)
		select {
		case <-w.dead:
			_ = c.Close()
		case <-ended:
		}
	}()
	err = w.unlessOver(c.Work(w.ctx, r.names.group, w.handle, r.workOptions(w.id)...))
	close(ended)
	<-closed
	_ = c.Close()
	return err
}

// unlessOver: what comes of one that is dead is nobody's business.
func (w *mortal) unlessOver(err error) error {
	if err != nil && w.ctx.Err() == nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}

// handle is the client.Handler.
func (w *mortal) handle(ctx context.Context, d *client.Delivery) error {
	m := w.of
	repo, ours := m.r.names.index[d.RepoID]
	if !ours {
		return m.r.worker.handle(ctx, d)
	}
	hold, after, taken := m.holders.Begin(verify.Hold{
		Repo: repo, Worker: w.id, Token: d.LeaseToken, Expires: m.r.clock.at(d.LeaseExpiresAt),
	}, verify.TickOf(m.r.clock.now()))
	if taken {
		m.takeover.Record(repo, after)
	}
	err := m.r.worker.handle(ctx, d)
	timer := time.NewTimer(mortalWork)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.dead:
		return errDead
	}
	m.holders.End(hold)
	return err
}

// settled is the client's hook for answers to settlements.
func (w *mortal) settled(repoID string, number, token uint64, err error, at time.Time) {
	if err == nil {
		w.of.settled.note(at.Sub(w.of.r.clock.begin))
	}
	w.of.r.worker.settled(repoID, number, token, err, at)
}

// happen kills half of the workers, those that live longest, every so often.
func (m *mortals) happen(ctx context.Context) error {
	for next := m.r.o.Warmup + m.every; sleep(ctx, next-m.r.clock.now()); next += m.every {
		m.kill()
	}
	return nil
}

func (m *mortals) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	half := len(m.living) / 2
	dying := slices.Clone(m.living[:half])
	m.living = slices.Delete(m.living, 0, half)
	at := m.r.clock.now()
	ids := make([]int, half)
	for i, w := range dying {
		w.line.cut()
		ids[i] = w.id
	}
	held := m.holders.Die(verify.TickOf(m.r.clock.now()), ids...)
	for _, w := range dying {
		close(w.dead)
		w.cancel()
	}
	m.deaths = append(m.deaths, death{at, half, held})
	m.r.happened(at, fmt.Sprintf("%d of %d workers die over %d repositories", half, half+len(m.living), held))
	for range half {
		m.bear()
	}
}

// backShare is the share of the speed before a death that counts as being back.
const backShare = 0.9

// conclude tells whether anybody had what somebody else held, and how soon the
// speed was back.
func (m *mortals) conclude(t *verify.Totals) *report.Scenario {
	t.TwoHolders = m.holders.Twice()
	s := &report.Scenario{Name: string(m.r.o.Scenario.Name)}
	var back []time.Duration
	held, late, least := 0, 0, 1.0
	for i, d := range m.deaths {
		end := m.r.o.Warmup + m.r.o.Duration
		if i+1 < len(m.deaths) {
			end = m.deaths[i+1].at
		}
		again := min(d.at+m.r.o.Lease, end-rateSteps*timeStep)
		b, ok := m.settled.back(d.at, again, end, m.r.o.Rate*backShare)
		back, held = append(back, b), held+d.held
		// A moment's halt of the machine is no loss of speed: from then on the mean counts.
		mean := m.settled.mean(again, end)
		least = min(least, mean/m.r.o.Rate)
		if !ok || mean < m.r.o.Rate*backShare {
			late++
		}
	}
	q := m.takeover.Quantiles()
	s.Set("deaths", float64(len(m.deaths)))
	s.Set("held_repositories", float64(held))
	s.Set("two_holders", float64(t.TwoHolders))
	s.Set("takeover_p50_ms", q.P50)
	s.Set("takeover_max_ms", q.Max)
	s.Set("lease_ms", float64(m.r.o.Lease.Milliseconds()))
	if len(back) == 0 {
		s.Missed = append(s.Missed, "nobody died")
		return s
	}
	s.Set("back_max_ms", float64(slices.Max(back).Microseconds())/1000)
	s.Set("late", float64(late))
	s.Set("after_a_lease_least", least)
	s.Lines = append(s.Lines,
		fmt.Sprintf("half of the workers died %d times, over %d repositories; two valid leases at a time: %d", len(m.deaths), held, t.TwoHolders),
		fmt.Sprintf("%.0f%% of the speed is back after %s; from a lease (%v) after each death to the next %.0f%% of it in the mean, at least",
			backShare*100, spread(back), m.r.o.Lease, least*100),
		fmt.Sprintf("what they held was another's after %.0f ms in the median, %.0f ms at most", q.P50, q.Max))
	if late > 0 {
		s.Missed = append(s.Missed, fmt.Sprintf("speed not back within a lease after %d of %d deaths", late, len(m.deaths)))
	}
	s.Plots = append(s.Plots, report.Plot{
		Title: "Settled, half of the workers killed again and again", X: "seconds", Y: "settled/s",
		Series: []report.Series{{Name: "settled/s", Points: m.settled.points(m.r.o.Warmup + m.r.o.Duration)}},
	})
	return s
}
