package actors

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func TestMailboxRefusesWhatDoesNotFitWhole(t *testing.T) {
	type post struct {
		packets, bytes int
		want           error
	}
	for _, c := range []struct {
		name  string
		posts []post
	}{
		{"by count", []post{{6, 1, nil}, {5, 1, ErrMailboxFull}, {4, 1, nil}, {1, 1, ErrMailboxFull}}},
		{"by bytes", []post{{1, 60, nil}, {1, 41, ErrMailboxFull}, {1, 40, nil}, {1, 1, ErrMailboxFull}}},
		{"behind one that is over the limit itself", []post{{1, 1000, nil}, {1, 0, ErrMailboxFull}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			box, _ := newManual(10, 100)
			for i, p := range c.posts {
				if err := box.TryPost(i, p.packets, p.bytes); !errors.Is(err, p.want) {
					t.Fatalf("post %d: got %v, want %v", i, err, p.want)
				}
			}
		})
	}
}

func TestMailboxOrder(t *testing.T) {
	box, m := newManual(1, 1)
	_ = box.TryPost("work", 1, 1)
	box.PostControl("control 1")
	box.PostControl("control 2")
	box.PostSystemMessage("system")
	m.run()
	if want := []any{"system", "control 1", "control 2", "work"}; !slices.Equal(m.handled, want) {
		t.Errorf("got %v, want %v", m.handled, want)
	}
}

// A lazy message costs no turn of its own; an urgent one does.
func TestMailboxLazyMessages(t *testing.T) {
	box, m := newManual(10, 100)
	var urgent atomic.Int32
	box.PostLazy("lazy", &urgent)
	if len(m.scheduled) != 0 {
		t.Error("a lazy message woke the actor")
	}
	urgent.Store(1)
	box.PostLazy("urgent", &urgent)
	m.run()
	if want := []any{"lazy", "urgent"}; !slices.Equal(m.handled, want) {
		t.Errorf("got %v, want %v", m.handled, want)
	}
	box.Close()
	if box.PostLazy("late", &urgent) {
		t.Error("a closed mailbox took a message")
	}
}

// An actor with much to do lets others have a turn after its throughput.
func TestMailboxYields(t *testing.T) {
	box, m := newManual(100, 100)
	for i := range 10 {
		_ = box.TryPost(i, 1, 1)
	}
	turns := 0
	for ; len(m.scheduled) > 0; turns++ {
		f := m.scheduled[0]
		m.scheduled = m.scheduled[1:]
		f()
	}
	if turns != 3 || len(m.handled) != 10 {
		t.Errorf("%d messages in %d turns, want 10 in 3", len(m.handled), turns)
	}
}

// A mailbox that was closed takes no work, but the system still reaches its actor:
// it has to hear that it must stop.
func TestClosedMailboxHearsTheSystem(t *testing.T) {
	box, m := newManual(10, 100)
	_ = box.TryPost("work", 4, 40)
	box.PostControl("control")
	if left := box.Close(); !slices.Equal(left, []any{"work"}) {
		t.Errorf("left: %v", left)
	}
	if packets, bytes := box.Held(); packets != 0 || bytes != 0 {
		t.Errorf("holds %d packets of %d bytes", packets, bytes)
	}
	box.PostSystemMessage("stop")
	m.run()
	if want := []any{"stop"}; !slices.Equal(m.handled, want) {
		t.Errorf("got %v, want %v", m.handled, want)
	}
}

func TestCloseIfIdle(t *testing.T) {
	for _, c := range []struct {
		name string
		post func(box *Mailbox)
		want bool
	}{
		{"idle", func(*Mailbox) {}, true},
		{"work waits", func(box *Mailbox) { _ = box.TryPost("work", 1, 1) }, false},
		{"work of no size waits", func(box *Mailbox) { _ = box.TryPost("work", 0, 0) }, false},
		{"a control message waits", func(box *Mailbox) { box.PostControl("later") }, false},
		{"it is closed", func(box *Mailbox) { box.Close() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			box, m := newManual(10, 100)
			got := false
			m.handle = func(x any) {
				if x == "ask" {
					c.post(box)
					got = box.CloseIfIdle()
				}
			}
			box.PostControl("ask")
			m.run()
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	box, m := newManual(10, 100)
	m.handle = func(any) {
		if box.CloseIfIdle() {
			t.Error("closed with work in hand")
		}
	}
	_ = box.TryPost("work", 1, 1)
	m.run()
}

func TestQueueAgainstSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue[int]
		var model []int
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "n") {
					q.push(next)
					model = append(model, next)
					next++
				}
			},
			"pop": func(t *rapid.T) {
				for range min(len(model), rapid.IntRange(1, 60).Draw(t, "n")) {
					if got := q.pop(); got != model[0] {
						t.Fatalf("popped %d, want %d", got, model[0])
					}
					model = model[1:]
				}
			},
			"clear": func(*rapid.T) { q.clear(); model = nil },
			"": func(t *rapid.T) {
				if q.len() != len(model) {
					t.Fatalf("len %d, want %d", q.len(), len(model))
				}
			},
		})
	})
}
