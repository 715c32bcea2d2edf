package actors

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// renewals collects the answers to one call of Renew.
type renewals struct {
	mu  sync.Mutex
	got map[int]RenewOutcome
}

func (w *worker) renew(list ...LeaseRef) *renewals {
	r := &renewals{got: map[int]RenewOutcome{}}
	w.Renew(list, func(part []RenewOutcome) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, x := range part {
			if _, twice := r.got[x.Index]; twice {
				w.d.t.Errorf("renewal %d answered twice", x.Index)
			}
			r.got[x.Index] = x
		}
	})
	return r
}

// answer is what there is after a while; ok is false when there is nothing.
func (r *renewals) answer(i int) (x RenewOutcome, ok bool) {
	pass(time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	x, ok = r.got[i]
	return x, ok
}

func refOf(x *Delivery) LeaseRef { return LeaseRef{Repo: x.Repo, Token: x.Token} }

func TestRenewalProlongs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 1)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 5000})
		b := w.want(1, "[1]")
		for range 10 {
			pass(3 * time.Second)
			sent := time.Now()
			x, ok := w.renew(refOf(&b[0])).answer(0)
			if !ok || x.Refusal != nil || x.Token != b[0].Token {
				t.Fatalf("renewal: %+v, answered %v", x, ok)
			}
			if want := sent.Add(5 * time.Second).UnixMilli(); x.ExpiresMs != want {
				t.Errorf("promised until %d, want %d: a full lease from when the renewal came", x.ExpiresMs, want)
			}
		}
		w.allDone(b)
	})
}

// A renewal is worth nothing without a majority that confirms, after it came, that
// this node still leads: another one may have given the lease away.
func TestRenewalWaitsForItsBarrier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 1)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 10_000})
		b := w.want(1, "[1]")
		p := d.tap("r")
		release := p.holdBarriers()
		first := w.renew(refOf(&b[0]))
		if _, ok := first.answer(0); ok {
			t.Fatal("answered without its barrier")
		}
		second := w.renew(refOf(&b[0])) // came after the barrier began
		release(nil)
		release = p.holdBarriers()
		if x, ok := first.answer(0); !ok || x.Refusal != nil {
			t.Errorf("the first: %+v, %v", x, ok)
		}
		if _, ok := second.answer(0); ok {
			t.Fatal("answered by a barrier that began before it came")
		}
		release(nil)
		if x, ok := second.answer(0); !ok || x.Refusal != nil {
			t.Errorf("the second: %+v, %v", x, ok)
		}
	})
}

// A barrier that fails renews nothing.
func TestRenewalThatIsNotConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 1)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 5000})
		b := w.want(1, "[1]")
		pass(3 * time.Second)
		release := d.tap("r").holdBarriers()
		r := w.renew(refOf(&b[0]))
		pass(time.Second)
		release(refusedUnknown)
		if x, ok := r.answer(0); !ok || x.Refusal == nil || x.Refusal.Code != CodeUnavailable {
			t.Errorf("got %+v, %v", x, ok)
		}
		pass(500 * time.Millisecond)
		if x, ok := w.renew(refOf(&b[0])).answer(0); !ok || x.Refusal == nil || x.Refusal.Code != CodeStaleLease {
			t.Errorf("after the lease's time: got %+v, %v", x, ok)
		}
	})
}

// A barrier of an earlier leadership confirms nothing in the next one.
func TestRenewalOfALaterTerm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 1)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 60_000})
		b := w.want(1, "[1]")
		p := d.tap("r")
		late := p.holdBarriers()
		first := w.renew(refOf(&b[0]))
		pass(time.Second)
		d.proposer.resign(p.Group())
		pass(time.Second)
		if x, ok := first.answer(0); !ok || x.Refusal == nil || x.Refusal.Code != CodeUnavailable {
			t.Errorf("in the earlier term: %+v, %v", x, ok)
		}
		d.proposer.lead(p.Group())
		pass(time.Second)
		p.mu.Lock()
		old := p.barriers
		p.barriers = nil
		p.mu.Unlock()
		second := w.renew(refOf(&b[0]))
		pass(time.Second)
		for _, done := range old {
			done(nil)
		}
		if x, ok := second.answer(0); ok {
			t.Fatalf("answered by a barrier of the earlier term: %+v", x)
		}
		late(nil)
		if x, ok := second.answer(0); !ok || x.Refusal != nil {
			t.Errorf("in the later term: %+v, %v", x, ok)
		}
	})
}

func TestRenewalsThatAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 1)
		w := d.open(SessionConfig{Credit: 10})
		b := w.want(1, "[1]")
		ref := refOf(&b[0])
		out, err := d.service.Renew(context.Background(), "g", []LeaseRef{
			{Repo: "", Token: 1}, {Repo: "r"}, {Repo: "r", Token: ref.Token + 1}, {Repo: "other", Token: ref.Token}, ref,
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{CodeInvalidArgument, CodeInvalidArgument, CodeStaleLease, CodeStaleLease, "OK"} {
			got := "OK"
			if out[i].Refusal != nil {
				got = out[i].Refusal.Code
			}
			if got != want || out[i].Index != i {
				t.Errorf("renewal %d: %+v, want %s", i, out[i], want)
			}
		}
		if _, err := d.service.Renew(context.Background(), "nobody", nil); err == nil {
			t.Error("renewed in an unknown group")
		}
	})
}

// However many renewals come, a partition asks for a majority's word once in a
// while only.
func TestRenewalsShareRounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.relay.Partitions = 1 })
		d.group("g", func(c *repository.GroupConfig) { c.MaxBatch = 1 })
		for _, repo := range []string{"a", "b", "c", "d"} {
			d.send(repo, 1)
		}
		w := d.open(SessionConfig{Credit: 4})
		b := w.take(4)
		before := d.taps[0].rounds
		for range 100 {
			for i := range b {
				w.renew(refOf(&b[i]))
			}
			pass(10 * time.Millisecond)
		}
		if rounds := d.taps[0].rounds - before; rounds > 21 || rounds < 15 {
			t.Errorf("%d rounds in a second, want one in 50 ms", rounds)
		}
	})
}
