package client

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waystation/waystation/client/internal/fakerelay"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// A handler that hangs is left behind: its packet is tried again, the worker goes on,
// and is told of it.
func TestWorkPacketTimeout(t *testing.T) {
	r := relay(t, nil)
	fill(r, 2, "a")
	var abandoned atomic.Int32
	c := dial(t, r, WithObserver(Observer{OnAbandoned: func(*Delivery, time.Time) { abandoned.Add(1) }}))
	release, gone := make(chan struct{}), make(chan struct{})
	var cause atomic.Value
	err := c.Work(within(t), "ci", func(ctx context.Context, d *Delivery) error {
		if d.Sequence == 1 && d.Attempt == 1 {
			defer close(gone)
			<-ctx.Done()
			cause.Store(context.Cause(ctx))
			<-release
			d.SetResult([]byte("too late"))
		}
		return nil
	}, WithPacketTimeout(time.Second), WithMaxPackets(3))
	close(release)
	<-gone
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := cause.Load().(error); !errors.Is(got, ErrPacketTimeout) || abandoned.Load() < 1 {
		t.Errorf("the handler's context ended with %v, %d abandoned", got, abandoned.Load())
	}
	st := r.Settled()
	if len(st) != 3 || st[0].GetOutcome() != waystationv1.Outcome_RETRY || !strings.Contains(st[0].GetError(), "timed out") ||
		st[1].GetOutcome() != waystationv1.Outcome_DONE || len(st[1].GetResult()) > 0 {
		t.Errorf("settled %v", st)
	}
}

// A handler that goes by its context is not left behind, and says what it was at.
func TestPacketTimeoutReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := false
		w := &worker{cfg: workConfig{timeout: time.Minute}, c: &Client{cfg: config{
			logger: slog.New(slog.DiscardHandler), observer: Observer{OnAbandoned: func(*Delivery, time.Time) { left = true }},
		}}}
		start := time.Now()
		err := w.bounded(t.Context(), func(ctx context.Context, _ *Delivery) error {
			<-ctx.Done()
			return errors.New("loading the index")
		}, &Delivery{})
		if !errors.Is(err, ErrPacketTimeout) || !strings.Contains(err.Error(), "loading the index") || left || time.Since(start) != time.Minute {
			t.Errorf("%v after %v, left behind: %v", err, time.Since(start), left)
		}
		release := make(chan struct{})
		start = time.Now()
		err = w.bounded(t.Context(), func(context.Context, *Delivery) error { <-release; return nil }, &Delivery{})
		close(release)
		if !errors.Is(err, ErrPacketTimeout) || !left || time.Since(start) != 66*time.Second {
			t.Errorf("%v after %v, left behind: %v", err, time.Since(start), left)
		}
	})
}

func TestWorkFallback(t *testing.T) {
	r := relay(t, nil)
	fill(r, 5, "a")
	c := dial(t, r)
	again := map[uint64]int{}
	err := c.Work(within(t), "ci", func(_ context.Context, d *Delivery) error {
		d.SetResult([]byte("of the handler"))
		again[d.Sequence]++
		switch {
		case d.Sequence == 1:
			return errors.New("model is away")
		case d.Sequence == 2:
			panic("boom")
		case d.Sequence == 3:
			return Dead(errors.New("no such branch"))
		case d.Sequence == 4 && again[4] == 1:
			return RetryAfter(errors.New("busy"), time.Minute)
		}
		return nil
	}, WithConcurrency(1), WithMaxPackets(6), WithFallback(func(_ context.Context, d *Delivery) error {
		if d.Sequence == 4 {
			return Dead(errors.New("not me"))
		}
		d.SetResult([]byte(`{"n":1}`))
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	st := r.Settled()
	if len(st) != 6 {
		t.Fatalf("settled %v", st)
	}
	if got, want := string(st[0].GetResult()), `{"fallback_used":true,"primary_error":"model is away","result":{"n":1}}`; got != want {
		t.Errorf("result %s, want %s", got, want)
	}
	if got := string(st[1].GetResult()); !strings.HasPrefix(got, `{"fallback_used":true,"primary_error":"panic: boom`) {
		t.Errorf("after a panic: %s", got)
	}
	if st[2].GetOutcome() != waystationv1.Outcome_DEAD || st[2].GetError() != "no such branch" {
		t.Errorf("of a dead packet: %v", st[2])
	}
	if s := st[3]; s.GetOutcome() != waystationv1.Outcome_RETRY || s.GetError() != "busy; fallback: not me" || s.GetRetryAfterMs() != 60_000 {
		t.Errorf("when both fail: %v", s)
	}
	if got := string(st[5].GetResult()); got != "of the handler" {
		t.Errorf("without need of it: %s", got)
	}
}

func TestFallbackResult(t *testing.T) {
	primary := errors.New("x")
	for result, want := range map[string]string{
		"": "}", `[1]`: `,"result":[1]}`, "<text>": `,"result":"<text>"}`, "\xff\x00": `,"result":"/wA="}`, strings.Repeat("\x01", 1<<20): "}",
	} {
		if got := string(FallbackResult(primary, []byte(result))); got != `{"fallback_used":true,"primary_error":"x"`+want {
			t.Errorf("%.20q: %.200s", result, got)
		}
	}
}

func TestWorkWarmUp(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {})
	fill(r, 1, "a")
	c := dial(t, r)
	warm := false
	err := c.Work(within(t), "ci", func(context.Context, *Delivery) error {
		if !warm {
			t.Error("a packet came before the worker was warm")
		}
		return nil
	}, WithMaxPackets(1), WithWarmUp(func(context.Context) error { warm = true; return nil }))
	if err != nil || !warm {
		t.Errorf("work ended with %v, warm %v", err, warm)
	}
	cold := errors.New("no such model")
	err = c.Work(within(t), "ci", func(context.Context, *Delivery) error { return nil }, WithWarmUp(func(context.Context) error { return cold }))
	if !errors.Is(err, cold) {
		t.Errorf("work ended with %v, want %v", err, cold)
	}
}

// The credit is 1 until 1 packet is done, then 2 until 2 more are, and so on.
func TestWorkSlowStart(t *testing.T) {
	var ended, delivered, settled atomic.Int32
	allowed := func(done int32) int32 {
		credit := int32(1)
		for ; done >= credit; credit *= 2 {
			done -= credit
		}
		return min(credit, 8)
	}
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnDelivery = func(*waystationv1.Delivery) {
			if n := delivered.Add(1) - settled.Load(); n > allowed(ended.Load()) {
				t.Errorf("%d packets held when %d were done", n, ended.Load())
			}
		}
		r.OnSettle = func(*waystationv1.Settlement) *waystationv1.Error { settled.Add(1); return nil }
	})
	fill(r, 4, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
	c := dial(t, r)
	err := c.Work(within(t), "ci", func(context.Context, *Delivery) error {
		ended.Add(1)
		return nil
	}, WithSlowStart(), WithConcurrency(4), WithCredit(8), WithMaxPackets(40))
	if err != nil {
		t.Fatal(err)
	}
}

func TestRamp(t *testing.T) {
	r := ramp{credit: 1}
	var got []int
	for range 9 {
		got = append(got, r.limit(8))
		r.success(8)
	}
	want := []int{1, 2, 2, 4, 4, 4, 4, 8, 8}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("credit %v, want %v", got, want)
		}
	}
}

// What a worker says of itself is in its first message.
func TestWorkerSaysWhoItIs(t *testing.T) {
	r := relay(t, nil)
	fill(r, 1, "a")
	c := dial(t, r)
	metadata := map[string]string{"model": "large"}
	opt := WithWorkerMetadata(metadata)
	metadata["model"] = "changed"
	err := c.Work(within(t), "ci", func(context.Context, *Delivery) error { return nil },
		WithMaxPackets(1), WithWorkerName("w"), WithWorkerVersion("1.2"), WithWorkerWeight(3), opt)
	if err != nil {
		t.Fatal(err)
	}
	o := r.Opened()
	if o.GetWorker() != "w" || o.GetVersion() != "1.2" || o.GetWeight() != 3 || !maps.Equal(o.GetMetadata(), map[string]string{"model": "large"}) {
		t.Errorf("opened with %v", o)
	}
	for name, o := range map[string]WorkOption{
		"version": WithWorkerVersion(strings.Repeat("x", 129)), "metadata": WithWorkerMetadata(map[string]string{"": "x"}),
		"metadata size": WithWorkerMetadata(map[string]string{"x": strings.Repeat("x", 4096)}), "timeout": WithPacketTimeout(-1),
	} {
		ctx, cancel := context.WithCancel(within(t))
		cancel()
		if err := c.Work(ctx, "ci", func(context.Context, *Delivery) error { return nil }, o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
