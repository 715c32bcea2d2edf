package actors

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// manual is a dispatcher that runs actors when the test says so, and an invoker
// that keeps what it is given.
type manual struct {
	mu        sync.Mutex
	scheduled []func()
	handled   []any
	escalated []any
	handle    func(message any)
}

func (m *manual) Schedule(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scheduled = append(m.scheduled, f)
}

func (m *manual) Throughput() int { return 4 }

func (m *manual) run() {
	for {
		m.mu.Lock()
		if len(m.scheduled) == 0 {
			m.mu.Unlock()
			return
		}
		f := m.scheduled[0]
		m.scheduled = m.scheduled[1:]
		m.mu.Unlock()
		f()
	}
}

func (m *manual) InvokeSystemMessage(x any) { m.handled = append(m.handled, x) }

func (m *manual) InvokeUserMessage(x any) {
	m.handled = append(m.handled, x)
	if m.handle != nil {
		m.handle(x)
	}
}

func (m *manual) EscalateFailure(_, message any) { m.escalated = append(m.escalated, message) }

func newManual(packets, bytes int) (*Mailbox, *manual) {
	box, m := NewMailbox(packets, bytes), &manual{}
	box.RegisterHandlers(m, m)
	return box, m
}

// The limit counts packets and bytes, queued and in hand; an empty mailbox takes
// any one message.
func TestMailboxLimits(t *testing.T) {
	box, m := newManual(4, 100)
	for i, step := range []struct {
		packets, bytes int
		want           error
	}{
		{1, 500, nil}, {1, 1, ErrMailboxFull},
	} {
		if err := box.TryPost(i, step.packets, step.bytes); !errors.Is(err, step.want) {
			t.Fatalf("post %d: %v, want %v", i, err, step.want)
		}
	}
	m.handle = func(any) {
		if err := box.TryPost("in hand", 1, 1); !errors.Is(err, ErrMailboxFull) {
			t.Errorf("post beside 500 bytes in hand: %v", err)
		}
	}
	m.run()
	m.handle = nil
	for i := range 4 {
		if err := box.TryPost(i, 1, 10); err != nil {
			t.Fatalf("post %d of 4: %v", i, err)
		}
	}
	if err := box.TryPost("fifth", 1, 10); !errors.Is(err, ErrMailboxFull) {
		t.Fatalf("fifth of four packets: %v", err)
	}
	m.run()
	if packets, bytes := box.Held(); packets != 0 || bytes != 0 || len(m.handled) != 5 {
		t.Fatalf("%d packets of %d bytes held after %d messages", packets, bytes, len(m.handled))
	}
}

// Control messages pass beside a full mailbox, and before its work.
func TestMailboxControlPasses(t *testing.T) {
	box, m := newManual(1, 10)
	if err := box.TryPost("work", 1, 10); err != nil {
		t.Fatal(err)
	}
	if !box.PostControl("control") {
		t.Fatal("control was refused")
	}
	m.run()
	if len(m.handled) != 2 || m.handled[0] != "control" || m.handled[1] != "work" {
		t.Fatalf("handled %v", m.handled)
	}
}

// A message that panics gives its slot back, and the next one is handled.
func TestMailboxPanicGivesTheSlotBack(t *testing.T) {
	box, m := newManual(2, 100)
	m.handle = func(x any) {
		if x == "bad" {
			panic("boom")
		}
	}
	for _, x := range []string{"bad", "good"} {
		if err := box.TryPost(x, 1, 50); err != nil {
			t.Fatal(err)
		}
	}
	m.run()
	if packets, bytes := box.Held(); packets != 0 || bytes != 0 {
		t.Errorf("a panic kept %d packets of %d bytes", packets, bytes)
	}
	if len(m.escalated) != 1 || m.escalated[0] != "bad" || len(m.handled) != 2 {
		t.Errorf("escalated %v, handled %v", m.escalated, m.handled)
	}
}

// While an actor is suspended only the system reaches it; nothing is lost.
func TestMailboxSuspends(t *testing.T) {
	box, m := newManual(10, 1000)
	box.PostSystemMessage(&actor.SuspendMailbox{})
	if err := box.TryPost("work", 1, 1); err != nil {
		t.Fatal(err)
	}
	m.run()
	if len(m.handled) != 0 {
		t.Fatalf("handled %v while suspended", m.handled)
	}
	box.PostSystemMessage(&actor.ResumeMailbox{})
	m.run()
	if len(m.handled) != 1 {
		t.Fatalf("handled %v after it was resumed", m.handled)
	}
}

// Closing hands back what was not handled, and then takes nothing.
func TestMailboxClose(t *testing.T) {
	box, m := newManual(10, 1000)
	for i := range 3 {
		if err := box.TryPost(i, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if box.CloseIfIdle() {
		t.Fatal("a mailbox with work closed as idle: the work would be lost")
	}
	if left := box.Close(); len(left) != 3 {
		t.Fatalf("close handed back %v", left)
	}
	if err := box.TryPost("late", 1, 1); !errors.Is(err, ErrMailboxClosed) || box.PostControl("late") {
		t.Fatalf("posted to a closed mailbox: %v", err)
	}
	m.run()
	if len(m.handled) != 0 {
		t.Fatalf("handled %v after the close", m.handled)
	}
}

// While an actor that goes away asks again and again, nothing that was admitted
// is ever lost: each message is handled, or its sender was told.
func TestMailboxCloseIfIdleRace(t *testing.T) {
	for range 200 {
		var handled atomic.Int64
		box := NewMailbox(1000, 1<<20)
		d := newDispatcher()
		box.RegisterHandlers(counting{&handled}, d)
		var admitted atomic.Int64
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				for range 20 {
					if box.TryPost("x", 1, 1) == nil {
						admitted.Add(1)
					}
				}
			})
		}
		for !box.CloseIfIdle() { //nolint:revive // the attempt is the body
		}
		senders.Wait()
		d.close()
		if handled.Load() != admitted.Load() {
			t.Fatalf("%d messages admitted, %d handled", admitted.Load(), handled.Load())
		}
	}
}

type counting struct{ n *atomic.Int64 }

func (c counting) InvokeSystemMessage(any)  {}
func (c counting) InvokeUserMessage(any)    { c.n.Add(1) }
func (c counting) EscalateFailure(_, _ any) {}
