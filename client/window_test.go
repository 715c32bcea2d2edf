package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestWindowServesInOrder(t *testing.T) {
	w := newWindow(2, 100)
	ctx := within(t)
	if err := w.acquire(ctx, 60); err != nil {
		t.Fatal(err)
	}
	// A large one waits for bytes, and a small one behind it does not overtake.
	got := make(chan string, 2)
	wait := func(name string, bytes int64) {
		if err := w.acquire(ctx, bytes); err != nil {
			t.Error(err)
		}
		got <- name
	}
	waiting := func(n int) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.waiting.Len() == n
	}
	go wait("large", 100)
	await(t, func() bool { return waiting(1) })
	go wait("small", 1)
	await(t, func() bool { return waiting(2) })
	w.release(1, 60)
	if first := <-got; first != "large" {
		t.Errorf("first came the %s one", first)
	}
	w.release(1, 100)
	if second := <-got; second != "small" {
		t.Errorf("then came the %s one", second)
	}
}

func TestWindowLetsGo(t *testing.T) {
	w := newWindow(1, 1)
	if got := w.cost(1 << 20); got != 1 {
		t.Errorf("a packet larger than the window costs %d, want all of it", got)
	}
	if err := w.acquire(within(t), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	left := make(chan error, 2)
	go func() { left <- w.acquire(ctx, 1) }()
	await(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.waiting.Len() == 1 })
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("acquire returned %v, want %v", err, context.Canceled)
	}
	go func() { left <- w.acquire(within(t), 1) }()
	await(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.waiting.Len() == 1 })
	w.close()
	if err := <-left; !errors.Is(err, ErrClosed) {
		t.Errorf("acquire returned %v, want %v", err, ErrClosed)
	}
	if err := w.acquire(within(t), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("acquire on a closed window returned %v", err)
	}
}

// await waits for a condition that another goroutine is about to make true.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the condition did not come true")
		}
	}
}

func TestRetryWaits(t *testing.T) {
	p := RetryPolicy{Min: 10 * time.Millisecond, Max: time.Second, Jitter: 0.5}
	for range 1000 {
		for failures, around := range map[int]time.Duration{1: 10 * time.Millisecond, 4: 80 * time.Millisecond} {
			if d := p.wait(failures, 0); d < around/2 || d > around*3/2 {
				t.Fatalf("wait %d lasts %v, want %v ± half", failures, d, around)
			}
		}
		if d := p.wait(1000, 0); d < p.Max/2 || d > p.Max {
			t.Fatalf("a late wait lasts %v, want up to %v", d, p.Max)
		}
		if d := p.wait(1, 5*time.Second); d < 5*time.Second || d > 8*time.Second {
			t.Fatalf("a wait lasts %v, the server asks for 5s", d)
		}
	}
}

func TestBadOptionsAreAllNamed(t *testing.T) {
	_, err := Dial(within(t), "localhost:1", WithWindow(0), WithMaxFrame(0, 0), WithRetry(RetryPolicy{}), WithLogger(nil), WithoutPosition(), WithProducer("x"))
	for _, word := range []string{"window", "frame", "retry", "logger", "producer"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error does not name the %s: %v", word, err)
		}
	}
	for _, targets := range []string{"", " , ", "localhost"} {
		if _, err := Dial(within(t), targets); err == nil {
			t.Errorf("dialled %q", targets)
		}
	}
	c, err := Dial(within(t), "localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Work(within(t), "", nil, WithConcurrency(0), WithLease(time.Millisecond), WithWorkerName(strings.Repeat("x", 129)))
	for _, word := range []string{"group", "concurrency", "lease", "worker name"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error does not name the %s: %v", word, err)
		}
	}
}

func TestWaitReadyEndsWithItsContext(t *testing.T) {
	c, err := Dial(within(t), "127.0.0.1:1") // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	if err := c.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait returned %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestSettlementMessagesFitTheWire(t *testing.T) {
	s := settle(&Delivery{}, errors.New(strings.Repeat("ä", maxError)+"\xff"))
	if len(s.message) > maxError || !utf8.ValidString(s.message) {
		t.Errorf("a message of %d bytes, valid UTF-8: %v", len(s.message), utf8.ValidString(s.message))
	}
	big := &Delivery{result: make([]byte, maxResult+1)}
	if s := settle(big, nil); s.outcome != outcomeRetry || len(s.result) > 0 {
		t.Errorf("a result that is too large settles as %d", s.outcome)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{10, 2, 8, 1})
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _, _ = parseResults(nil, data)
		var r workResponse
		_ = r.parse(data)
	})
}
