package actors

import (
	"context"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// What a settlement is answered that does not take effect.
func TestSettlementsThatAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 3)
		w := d.open(SessionConfig{Credit: 10})
		b := w.want(3, "[1 2 3]")
		for _, c := range []struct {
			name   string
			change func(x *Settlement)
			code   string
			field  string
		}{
			{"no repository", func(x *Settlement) { x.Repo = "" }, CodeInvalidArgument, "repo_id"},
			{"not UTF-8", func(x *Settlement) { x.Repo = "\xff" }, CodeInvalidArgument, "repo_id"},
			{"no sequence", func(x *Settlement) { x.Seq = 0 }, CodeInvalidArgument, "sequence"},
			{"no token", func(x *Settlement) { x.Token = 0 }, CodeInvalidArgument, "lease_token"},
			{"no outcome", func(x *Settlement) { x.Outcome = 0 }, CodeInvalidArgument, "outcome"},
			{"unknown outcome", func(x *Settlement) { x.Outcome = 4 }, CodeInvalidArgument, "outcome"},
			{"error too long", func(x *Settlement) { x.Error = string(make([]byte, 4<<10+1)) }, CodeInvalidArgument, "error"},
			{"result too big", func(x *Settlement) { x.Result = make([]byte, 1<<20+1) }, CodeInvalidArgument, "result"},
			{"delay of what is done", func(x *Settlement) { x.RetryAfterMs = 1 }, CodeInvalidArgument, "retry_after_ms"},
			{"delay too long", func(x *Settlement) { x.Outcome, x.RetryAfterMs = OutcomeRetry, 86_400_001 }, CodeInvalidArgument, "retry_after_ms"},
			{"result of a failure", func(x *Settlement) { x.Outcome, x.Result = OutcomeRetry, []byte("x") }, CodeInvalidArgument, "result"},
			{"packet of no lease", func(x *Settlement) { x.Seq = 4 }, CodeInvalidArgument, "sequence"},
			{"an older token", func(x *Settlement) { x.Token-- }, CodeStaleLease, "lease_token"},
			{"a newer token", func(x *Settlement) { x.Token++ }, CodeStaleLease, "lease_token"},
			{"of a repository without a lease", func(x *Settlement) { x.Repo = "other" }, CodeStaleLease, "lease_token"},
		} {
			x := done(&b[0])
			c.change(&x)
			v := w.settle(x)
			v.want(c.code)
			if got := v.got[0].Refusal.Field; got != c.field {
				t.Errorf("%s: refused for %s, want %s", c.name, got, c.field)
			}
		}
		w.allDone(b) // none of it did any harm
	})
}

// The same settlement twice is fine, while its lease is open and after its end;
// another one of the same packet is not.
func TestSettlingTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 3)
		w := d.open(SessionConfig{Credit: 10})
		b := w.want(3, "[1 2 3]")
		w.settle(done(&b[0]), done(&b[0])).want("OK", "OK")
		w.settle(done(&b[0])).want("OK")
		w.settle(retry(&b[0], "no")).want(CodeInvalidArgument)
		third := w.settle(done(&b[2]))
		again := w.settle(done(&b[2]))
		third.want("open")
		w.settle(dead(&b[1], "no")).want("OK")
		third.want(CodeStaleLease)
		again.want(CodeStaleLease)
		w.settle(done(&b[0])).want("OK") // the lease is over
		w.settle(dead(&b[1], "no")).want("OK")
		w.settle(done(&b[1])).want(CodeStaleLease)
		w.settle(done(&b[2])).want(CodeStaleLease)
		next := w.want(1, "[3]")
		w.settle(done(&b[2])).want(CodeStaleLease) // the old token, of a packet that is held again
		w.allDone(next)
	})
}

// Settlements without a session, as HTTP has them, go to whatever lease has the
// token; one whose turn has not come is answered at last, and counts all the same.
func TestUnarySettlements(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 3)
		b, err := d.service.Pull(context.Background(), PullConfig{Group: "g"})
		if err != nil || seqs(b) != "[1 2 3]" {
			t.Fatalf("pulled %s, %v", seqs(b), err)
		}
		start := time.Now()
		out, err := d.service.Settle(context.Background(), "g", []Settlement{done(&b[1]), done(&b[2])})
		if err != nil || len(out) != 2 || out[0].Refusal == nil || out[0].Refusal.Code != CodeUnavailable || out[1].Seq != 3 {
			t.Fatalf("settled before their turn: %+v, %v", out, err)
		}
		if waited := time.Since(start); waited != d.service.cfg.SettleWait {
			t.Errorf("answered after %v", waited)
		}
		if out, err := d.service.Settle(context.Background(), "g", []Settlement{done(&b[0])}); err != nil || out[0].Refusal != nil {
			t.Fatalf("settled the first: %+v, %v", out, err)
		}
		info := d.lookup("r", 3)
		if info.Groups[0].State != "done" {
			t.Errorf("the last one is %s", info.Groups[0].State)
		}
		if _, err := d.service.Settle(context.Background(), "nobody", nil); refusalIn(err) == nil || refusalIn(err).Code != CodeNotFound {
			t.Errorf("settled in an unknown group: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		d.send("s", 2)
		c, err := d.service.Pull(context.Background(), PullConfig{Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.service.Settle(ctx, "g", []Settlement{done(&c[1])}); err == nil {
			t.Error("a call that was given up got an answer")
		}
	})
}

func (d *desk) lookup(repo string, seq repository.Seq) *PacketInfo {
	d.t.Helper()
	info, err := d.service.Lookup(d.t.Context(), repo, seq, "")
	if err != nil {
		d.t.Fatalf("look up %s %d: %v", repo, seq, err)
	}
	return info
}

// A lease is taken away after its full length, not before; what its worker says
// then is refused, and the next one gets the packets with a higher token.
func TestLeaseExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.BackoffBaseMs, c.JitterPercent = 1000, 0 })
		d.send("r", 2)
		slow := d.open(SessionConfig{Credit: 2, LeaseMs: 5000})
		b := slow.want(2, "[1 2]")
		if until := time.Until(time.UnixMilli(b[0].ExpiresMs)); until > 5*time.Second || until < 4900*time.Millisecond {
			t.Errorf("promised for %v", until)
		}
		other := d.open(SessionConfig{Credit: 10})
		pass(4900 * time.Millisecond)
		other.nothing()
		if info := d.lookup("r", 1); info.Groups[0].State != "leased" {
			t.Errorf("before its end it is %s", info.Groups[0].State)
		}
		pass(200 * time.Millisecond)
		if info := d.lookup("r", 1); info.Groups[0].State != "waiting" {
			t.Errorf("after its end it is %s", info.Groups[0].State)
		}
		again := other.want(1, "[1]") // alone, after its back-off: it may be what killed the worker
		if again[0].Attempt != 2 || again[0].Token <= b[0].Token {
			t.Errorf("the next lease: %+v", again[0])
		}
		slow.Close() // or it would have its share of what comes
		slow.settle(done(&b[0])).want(CodeStaleLease)
		other.allDone(again)
		rest := other.want(1, "[2]")
		if rest[0].Attempt != 1 {
			t.Errorf("the second packet was charged: attempt %d", rest[0].Attempt)
		}
	})
}

// A settlement that takes effect shows that the worker lives: its lease counts
// from there.
func TestSettlingProlongs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 8)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 1000})
		b := w.want(8, "[1 2 3 4 5 6 7 8]")
		for i := range b {
			pass(900 * time.Millisecond)
			w.settle(done(&b[i])).want("OK")
		}
	})
}

// A worker whose lease ran out keeps its credit charged until it says something:
// else a hung one would be handed lane after lane, and charge each an attempt.
func TestHungWorkerGetsNoMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxAttempts, c.BackoffMaxMs = 100, 1000 })
		for _, repo := range []string{"a", "b", "c"} {
			d.send(repo, 1)
		}
		w := d.open(SessionConfig{Credit: 2, LeaseMs: 1000})
		w.take(2)
		pass(time.Minute)
		w.nothing()
		if n := w.Held(); n != 2 {
			t.Errorf("%d packets count as held, want 2", n)
		}
		w.SetCredit(2)
		w.take(2)
	})
}
