package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waystation/waystation/client/internal/fakerelay"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// fill stores n packets in each repository.
func fill(r *fakerelay.Relay, n int, repos ...string) {
	for i := range n {
		for _, repo := range repos {
			r.Add(&waystationv1.CodePacket{RepoId: repo, Content: fmt.Appendf(nil, "%s/%d", repo, i+1)})
		}
	}
}

// book keeps what handlers saw.
type seen struct {
	mu    sync.Mutex
	order map[string][]uint64
}

func (s *seen) add(d *Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order == nil {
		s.order = make(map[string][]uint64)
	}
	s.order[d.RepoID] = append(s.order[d.RepoID], d.Sequence)
}

func (s *seen) of(repo string) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order[repo])
}

func upTo(n int) []uint64 {
	var s []uint64
	for i := range n {
		s = append(s, uint64(i+1))
	}
	return s
}

func TestWorkInOrder(t *testing.T) {
	r := relay(t, nil)
	repos := []string{"a", "b", "c", "d/e"}
	fill(r, 100, repos...)
	c := dial(t, r)
	var s seen
	var running, most atomic.Int32
	err := c.Work(within(t), "ci", func(_ context.Context, d *Delivery) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		if want := fmt.Sprintf("%s/%d", d.RepoID, d.Sequence); string(d.Content) != want {
			t.Errorf("content %q, want %q", d.Content, want)
		}
		s.add(d)
		return nil
	}, WithConcurrency(3), WithMaxPackets(400))
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range repos {
		if got := s.of(repo); !slices.Equal(got, upTo(100)) {
			t.Errorf("%s: handled %v", repo, got)
		}
	}
	if n := len(r.Settled()); n != 400 {
		t.Errorf("%d settlements, want 400", n)
	}
	if most.Load() > 3 {
		t.Errorf("%d handlers at once, want at most 3", most.Load())
	}
}

// How soon a delivery comes is the machine's business: a worker may leave before.
func TestWorkExitsWhenEmpty(t *testing.T) {
	r := relay(t, nil)
	fill(r, 1, "a")
	c := dial(t, r)
	var s seen
	for ctx := within(t); len(s.of("a")) == 0; {
		err := c.Work(ctx, "ci", func(_ context.Context, d *Delivery) error {
			s.add(d)
			return nil
		}, WithExitWhenEmpty(20*time.Millisecond))
		if err != nil || ctx.Err() != nil {
			t.Fatalf("work ended with %v, %v", err, ctx.Err())
		}
	}
	if got := s.of("a"); !slices.Equal(got, upTo(1)) {
		t.Errorf("handled %v", got)
	}
}

func TestWorkOutcomes(t *testing.T) {
	r := relay(t, nil)
	fill(r, 6, "a")
	c := dial(t, r)
	var s seen
	tries := map[uint64]int{}
	err := c.Work(within(t), "ci", func(_ context.Context, d *Delivery) error {
		s.add(d)
		tries[d.Sequence]++
		again := tries[d.Sequence] > 1
		switch {
		case d.Sequence == 2 && !again:
			return errors.New("not yet")
		case d.Sequence == 3:
			return fmt.Errorf("parse: %w", Dead(errors.New("no such branch")))
		case d.Sequence == 4 && !again:
			panic("boom")
		case d.Sequence == 5 && !again:
			runtime.Goexit()
		}
		d.SetResult([]byte("ok"))
		return nil
	}, WithConcurrency(1), WithMaxPackets(9))
	if err != nil {
		t.Fatal(err)
	}
	// A failure ends its batch: what follows it is not run before it passed.
	if got, want := s.of("a"), []uint64{1, 2, 2, 3, 4, 4, 5, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("handled %v, want %v", got, want)
	}
	var got []string
	for _, st := range r.Settled() {
		text, stack, _ := strings.Cut(st.GetError(), "\n\n")
		if strings.HasPrefix(text, "panic") && !strings.Contains(stack, "TestWorkOutcomes") {
			t.Errorf("no stack with a panic: %q", st.GetError())
		}
		got = append(got, fmt.Sprintf("%d %v %s%s", st.GetSequence(), st.GetOutcome(), text, st.GetResult()))
	}
	want := []string{
		"1 DONE ok", "2 RETRY not yet", "2 DONE ok", "3 DEAD parse: no such branch", "4 RETRY panic: boom", "4 DONE ok",
		"5 RETRY handler ended its goroutine", "5 DONE ok", "6 DONE ok",
	}
	if !slices.Equal(got, want) {
		t.Errorf("settled:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWorkDrainsWhenContextEnds(t *testing.T) {
	r := relay(t, nil)
	fill(r, 20, "a", "b", "c")
	c := dial(t, r)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var begun sync.WaitGroup
	begun.Add(2)
	release := make(chan struct{})
	var s seen
	worked := make(chan error, 1)
	go func() {
		worked <- c.Work(ctx, "ci", func(ctx context.Context, d *Delivery) error {
			begun.Done()
			<-release
			s.add(d)
			return ctx.Err() // the handler's context does not end with Work's
		}, WithConcurrency(2))
	}()
	begun.Wait()
	cancel()
	select {
	case err := <-worked:
		t.Fatalf("work ended before its handlers: %v", err)
	default:
	}
	close(release)
	if err := <-worked; err != nil {
		t.Fatal(err)
	}
	if n := len(r.Settled()); n != 2 {
		t.Errorf("%d settlements, want those of the 2 that ran", n)
	}
	// What was delivered and not begun is free for another worker at once.
	err := c.Work(within(t), "ci", func(_ context.Context, d *Delivery) error {
		s.add(d)
		return nil
	}, WithMaxPackets(58))
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"a", "b", "c"} {
		if got := s.of(repo); !slices.Equal(got, upTo(20)) {
			t.Errorf("%s: handled %v", repo, got)
		}
	}
}

func TestWorkDrainTimeout(t *testing.T) {
	r := relay(t, nil)
	fill(r, 1, "a")
	c := dial(t, r)
	ctx, cancel := context.WithCancel(within(t))
	var cause error
	err := c.Work(ctx, "ci", func(ctx context.Context, _ *Delivery) error {
		cancel()
		<-ctx.Done()
		cause = context.Cause(ctx)
		return cause
	}, WithDrainTimeout(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(cause, ErrDrainTimeout) {
		t.Errorf("the handler's context ended with %v, want %v", cause, ErrDrainTimeout)
	}
}

func TestWorkMaxPackets(t *testing.T) {
	r := relay(t, nil)
	fill(r, 10, "a", "b")
	c := dial(t, r)
	var calls atomic.Int32
	err := c.Work(within(t), "ci", func(context.Context, *Delivery) error {
		calls.Add(1)
		return nil
	}, WithMaxPackets(7))
	if err != nil {
		t.Fatal(err)
	}
	if calls.Load() != 7 || len(r.Settled()) != 7 {
		t.Errorf("%d calls, %d settlements, want 7", calls.Load(), len(r.Settled()))
	}
}

func TestWorkRenewsWhileHandlerRuns(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) { r.Lease = 300 * time.Millisecond })
	fill(r, 1, "a")
	c := dial(t, r)
	work, enough := context.WithCancel(within(t))
	defer enough()
	err := c.Work(work, "ci", func(ctx context.Context, d *Delivery) error {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		_, before := r.Counts()
		for { // for longer than a lease: there are three renewals in one
			if _, renewals := r.Counts(); renewals >= before+4 {
				enough()
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx) // a machine that stood still for 300 ms
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if st := r.Settled(); len(st) != 1 || st[0].GetOutcome() != waystationv1.Outcome_DONE {
		t.Errorf("settled %v, want one done", st)
	}
}

func TestWorkLeaseLost(t *testing.T) {
	stale := &waystationv1.Error{Code: CodeStaleLease, Message: "taken"}
	later := &waystationv1.Error{Code: CodeUnavailable, Message: "no leader"}
	for name, answer := range map[string]*waystationv1.Error{"refused": stale, "not renewed": later} {
		t.Run(name, func(t *testing.T) {
			r := relay(t, func(r *fakerelay.Relay) {
				r.Lease = 60 * time.Millisecond
				r.OnRenew = func(*waystationv1.LeaseRef) *waystationv1.Error { return answer }
			})
			fill(r, 1, "a")
			c := dial(t, r)
			var causes []error
			err := c.Work(within(t), "ci", func(ctx context.Context, d *Delivery) error {
				if d.Attempt > 1 {
					return nil
				}
				<-ctx.Done()
				causes = append(causes, context.Cause(ctx))
				return context.Cause(ctx)
			}, WithMaxPackets(2))
			if err != nil {
				t.Fatal(err)
			}
			if len(causes) != 1 || !errors.Is(causes[0], ErrLeaseLost) {
				t.Errorf("the handler's context ended with %v, want %v once", causes, ErrLeaseLost)
			}
			if st := r.Settled(); len(st) != 1 || st[0].GetOutcome() != waystationv1.Outcome_DONE {
				t.Errorf("settled %v, want the second try's done only", st)
			}
		})
	}
}

func TestWorkSurvivesLostStreams(t *testing.T) {
	r := relay(t, nil)
	repos := []string{"a", "b", "c", "d", "e"}
	fill(r, 200, repos...)
	c := dial(t, r)
	var s seen
	var calls atomic.Int32
	err := c.Work(within(t), "ci", func(_ context.Context, d *Delivery) error {
		s.add(d)
		if calls.Add(1)%50 == 0 {
			r.Cut()
		}
		return nil
	}, WithMaxPackets(1000))
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range repos {
		// Nothing twice: what is known of a grant is not handled again.
		if got := s.of(repo); !slices.Equal(got, upTo(200)) {
			t.Errorf("%s: handled %v", repo, got)
		}
	}
}

func TestWorkResendsSettlements(t *testing.T) {
	var refused atomic.Int32
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnSettle = func(*waystationv1.Settlement) *waystationv1.Error {
			if refused.Add(1) <= 3 {
				return &waystationv1.Error{Code: CodeUnknown, RetryAfterMs: 1}
			}
			return nil
		}
	})
	fill(r, 1, "a")
	var told []error
	c := dial(t, r, WithObserver(Observer{OnSettled: func(_ string, _, _ uint64, err error, _ time.Time) { told = append(told, err) }}))
	if err := c.Work(within(t), "ci", func(context.Context, *Delivery) error { return nil }, WithMaxPackets(1)); err != nil {
		t.Fatal(err)
	}
	if len(r.Settled()) != 1 || len(told) != 1 || told[0] != nil {
		t.Errorf("%d settled, observer told %v, want one success", len(r.Settled()), told)
	}
}

func TestWorkRefusesCorruptContent(t *testing.T) {
	var spoilt atomic.Int32
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnDelivery = func(d *waystationv1.Delivery) {
			if spoilt.Add(1) == 1 {
				d.Packet.Content[0] ^= 1
			}
		}
	})
	c := dial(t, r)
	if _, err := c.Publish(within(t), &Packet{RepoID: "a", Content: []byte("content")}); err != nil {
		t.Fatal(err)
	}
	calls := 0
	err := c.Work(within(t), "ci", func(_ context.Context, d *Delivery) error {
		calls++
		if string(d.Content) != "content" {
			t.Errorf("the handler saw %q", d.Content)
		}
		return nil
	}, WithMaxPackets(2))
	if err != nil {
		t.Fatal(err)
	}
	st := r.Settled()
	if calls != 1 || len(st) != 2 || st[0].GetOutcome() != waystationv1.Outcome_RETRY || !strings.Contains(st[0].GetError(), "crc32c") {
		t.Errorf("%d calls, settled %v; want a retry that names the checksum, then one call", calls, st)
	}
}

func TestWorkEndsWithFatalRefusal(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnOpen = func(string) error { return refused(CodeInvalidArgument) }
	})
	c := dial(t, r)
	err := c.Work(within(t), "ci", func(context.Context, *Delivery) error { return nil })
	if ErrorCode(err) != CodeInvalidArgument {
		t.Errorf("work returned %v, want %s", err, CodeInvalidArgument)
	}
}

func TestCloseEndsWork(t *testing.T) {
	r := relay(t, nil)
	fill(r, 1, "a")
	c := dial(t, r)
	begun := make(chan struct{})
	worked := make(chan error, 1)
	go func() {
		worked <- c.Work(within(t), "ci", func(ctx context.Context, _ *Delivery) error {
			close(begun)
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	<-begun
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-worked; !errors.Is(err, ErrClosed) {
		t.Errorf("work returned %v, want %v", err, ErrClosed)
	}
	if err := c.Work(within(t), "ci", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("work on a closed client returned %v", err)
	}
}
