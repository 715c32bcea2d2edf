package actors

import (
	"bytes"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// content is a delivered packet's content.
func content(t *testing.T, x *Delivery) []byte {
	t.Helper()
	var p wire.Packet
	if err := p.Parse(x.Packet); err != nil {
		t.Fatalf("delivered packet: %v", err)
	}
	return p.Content
}

func TestDeliveryInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 40)
		w := d.open(SessionConfig{Credit: 100})
		first := w.take(32) // a batch
		for i := range first {
			x := &first[i]
			if x.Repo != "r" || int(x.Seq) != i+1 || x.Attempt != 1 || x.Redelivered || x.LeaseMs != 30_000 {
				t.Errorf("delivery %d: %+v", i, x)
			}
			if want := []byte{byte('0' + i)}; i < 10 && !bytes.Equal(content(t, x), want) {
				t.Errorf("delivery %d has the content %q, want %q", i, content(t, x), want)
			}
		}
		w.nothing() // one lease of a repository at a time
		w.allDone(first)
		w.want(8, "[33 34 35 36 37 38 39 40]")
	})
}

// A failure in mid-batch ends the lease: what was done before it counts, what
// comes behind it goes back uncharged, and the lane waits for its head alone.
func TestFailureInMidBatchKeepsTheOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxBatch = 4 })
		d.send("r", 6)
		w := d.open(SessionConfig{Credit: 100})
		b := w.want(4, "[1 2 3 4]")
		w.settle(done(&b[0]), retry(&b[1], "no"), done(&b[2]), done(&b[3])).want("OK", "OK", CodeStaleLease, CodeStaleLease)
		w.nothing()
		again := w.want(1, "[2]")
		if again[0].Attempt != 2 || again[0].Token <= b[0].Token {
			t.Errorf("after a retry: %+v", again[0])
		}
		w.nothing() // alone, until it passes
		w.allDone(again)
		rest := w.want(4, "[3 4 5 6]")
		for i := range rest {
			if rest[i].Attempt != 1 {
				t.Errorf("packet %d was charged for the failure of another: attempt %d", rest[i].Seq, rest[i].Attempt)
			}
		}
	})
}

// What is done out of order takes effect with what is before it, and is answered
// then.
func TestDoneOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 4)
		w := d.open(SessionConfig{Credit: 100})
		b := w.want(4, "[1 2 3 4]")
		third, fourth := w.settle(done(&b[2])), w.settle(done(&b[3]))
		pass(time.Second)
		third.want("open")
		w.settle(done(&b[0])).want("OK")
		third.want("open")
		w.settle(done(&b[1])).want("OK")
		third.want("OK")
		fourth.want("OK")
	})
}

// The same, with a failure that the gap hides: what was done behind it is not.
func TestDoneBehindAFailureGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 3)
		w := d.open(SessionConfig{Credit: 100})
		b := w.want(3, "[1 2 3]")
		third := w.settle(done(&b[2]))
		second := w.settle(retry(&b[1], "no"))
		third.want(CodeStaleLease) // at once: it can't take effect any more
		second.want("open")        // what is before it may fail still
		w.settle(done(&b[0])).want("OK")
		second.want("OK")
		w.allDone(w.want(1, "[2]"))
		w.want(1, "[3]")
	})
}

func TestBackoffOfALaneGrows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxAttempts = 10; c.BackoffMaxMs = 8000 })
		d.send("r", 2)
		w := d.open(SessionConfig{Credit: 100})
		b := w.want(2, "[1 2]")
		for i, base := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second} {
			start := time.Now()
			w.settle(retry(&b[0], "no")).want("OK")
			b = w.want(1, "[1]")
			if waited := time.Since(start); waited < base*8/10 || waited > base*12/10+20*time.Millisecond {
				t.Errorf("retry %d came after %v, want %v ± 20 %%", i+1, waited, base)
			}
			if int(b[0].Attempt) != i+2 {
				t.Errorf("retry %d is attempt %d", i+1, b[0].Attempt)
			}
		}
	})
}

// A lane that backs off stands in nobody's way.
func TestBackoffDelaysNoOtherRepository(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		w := d.open(SessionConfig{Credit: 100})
		d.send("bad", 1)
		b := w.want(1, "[1]")
		w.settle(retry(&b[0], "no")).want("OK")
		start := time.Now()
		for range 10 {
			d.send("good", 1)
			w.allDone(w.take(1))
		}
		if waited := time.Since(start); waited > 100*time.Millisecond {
			t.Errorf("ten packets of another repository took %v", waited)
		}
	})
}

func TestDeadAfterMaxAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxAttempts = 3 })
		d.send("r", 2)
		w := d.open(SessionConfig{Credit: 1})
		for attempt := range 3 {
			b := w.want(1, "[1]")
			if int(b[0].Attempt) != attempt+1 {
				t.Errorf("attempt %d, want %d", b[0].Attempt, attempt+1)
			}
			w.settle(retry(&b[0], "broken")).want("OK")
		}
		w.allDone(w.want(1, "[2]"))
		letters := d.dead(DeadQuery{Group: "g"})
		if len(letters) != 1 || letters[0].Seq != 1 || letters[0].Reason != repository.ReasonAttempts ||
			letters[0].Attempts != 3 || letters[0].Error() != "broken" {
			t.Errorf("dead letters: %+v", letters)
		}
	})
}

func TestDeadAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 3)
		w := d.open(SessionConfig{Credit: 10})
		b := w.want(3, "[1 2 3]")
		w.settle(done(&b[0]), dead(&b[1], "unreadable")).want("OK", "OK")
		w.want(1, "[3]") // without a back-off
		letters := d.dead(DeadQuery{Group: "g"})
		if len(letters) != 1 || letters[0].Seq != 2 || letters[0].Reason != repository.ReasonRejected || letters[0].Error() != "unreadable" {
			t.Errorf("dead letters: %+v", letters)
		}
	})
}

// dead is the first page of dead letters.
func (d *desk) dead(q DeadQuery) []DeadLetter {
	d.t.Helper()
	list, _, err := d.service.DeadLetters(d.t.Context(), q)
	if err != nil {
		d.t.Fatalf("dead letters: %v", err)
	}
	return list
}

func TestPriorities(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		for i, priority := range []uint8{2, 0, 1, 2, 0, 1} { // low, normal, high
			if a := d.publish(packet(wire.PacketFields{RepoID: "r", Content: []byte{byte(i)}, Priority: priority})); a[0].refusal != nil {
				t.Fatal(a[0].refusal)
			}
		}
		w := d.open(SessionConfig{Credit: 100})
		for _, want := range []string{"[3 6]", "[2 5]", "[1 4]"} {
			w.allDone(w.want(2, want))
		}
	})
}
