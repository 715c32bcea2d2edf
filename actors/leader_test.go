package actors

import (
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// What a worker held when the leadership was lost it may still settle under the
// next one, if its lease is open: each counts as just renewed.
func TestLeasesOutliveLeaderships(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 4)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 5000})
		b := w.want(2, "[1 2]")
		g := d.partition("r").Group()
		pass(4 * time.Second)
		d.proposer.resign(g)
		pass(time.Second)
		w.settle(done(&b[0])).want(CodeUnavailable)
		if x, ok := w.renew(refOf(&b[0])).answer(0); !ok || x.Refusal == nil || x.Refusal.Code != CodeUnavailable {
			t.Errorf("renewal without a leader: %+v, %v", x, ok)
		}
		w.nothing() // what was granted and not handed out stays where it is
		pass(10 * time.Second)
		d.proposer.lead(g)
		pass(4 * time.Second)
		w.settle(done(&b[0])).want("OK")
		c := w.want(2, "[3 4]")
		if c[0].Token != b[0].Token {
			t.Errorf("token %d, then %d", b[0].Token, c[0].Token)
		}
		w.allDone(b[1:])
		w.allDone(c)
		if n := w.Held(); n != 0 {
			t.Errorf("%d packets count as held", n)
		}
		d.send("r", 1)
		w.want(1, "[5]")
	})
}

// A lease that the leader of the time before gave runs out after a full length
// under the next, and not earlier.
func TestLeaseRunsOutUnderTheNextLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.BackoffBaseMs, c.JitterPercent = 10, 0 })
		d.send("r", 1)
		w := d.open(SessionConfig{Credit: 10, LeaseMs: 5000})
		b := w.want(1, "[1]")
		g := d.partition("r").Group()
		pass(4 * time.Second)
		d.proposer.resign(g)
		d.proposer.lead(g)
		pass(4900 * time.Millisecond)
		w.Close()
		other := d.open(SessionConfig{Credit: 10})
		other.nothing()
		pass(200 * time.Millisecond)
		if again := other.want(1, "[1]"); again[0].Attempt != 2 {
			t.Errorf("the next lease: %+v", again[0])
		}
		w.settle(done(&b[0])).want(CodeStaleLease)
	})
}

// The outcome of a settlement that was in the log when the leadership was lost is
// unknown; sent again it is fine, whatever became of it.
func TestSettlementInTheLogAtAChange(t *testing.T) {
	for _, ends := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			d := newDesk(t, nil)
			d.send("r", 2)
			w := d.open(SessionConfig{Credit: 10})
			b := w.want(2, "[1 2]")
			g := d.partition("r").Group()
			d.proposer.hold(g, true)
			list := dones(b[:1])
			if ends {
				list = dones(b)
			}
			v := w.settle(list...)
			await(t, "the proposal", func() bool { return d.proposer.waiting(g) == 1 })
			behind := w.settle(list...) // waits for the same
			d.proposer.resign(g)
			pass(time.Second)
			if v.code(0) != CodeUnknown && v.code(0) != CodeUnavailable || behind.code(0) == "open" {
				t.Errorf("ends %v: in the log it is %s, behind it %s", ends, v.code(0), behind.code(0))
			}
			d.proposer.hold(g, false)
			d.proposer.lead(g)
			pass(time.Second)
			w.settle(list...).want([]string{"OK", "OK"}[:len(list)]...)
			if ends == false {
				w.allDone(b[1:])
			}
			if n := w.Held(); n != 0 {
				t.Errorf("ends %v: %d packets count as held", ends, n)
			}
			d.send("r", 1)
			w.want(1, "[3]")
		})
	}
}

// A grant that was committed and never reached its session is handed out under the
// next leadership: else its lane stood still for a lease.
func TestGrantInTheLogAtAChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		w := d.open(SessionConfig{Worker: "ci", Credit: 10, LeaseMs: 60_000})
		pass(time.Second)
		g := d.partition("r").Group()
		d.send("r", 2)
		pass(0)
		b := w.want(2, "[1 2]")
		d.proposer.hold(g, true)
		v := w.settle(dones(b)...)
		await(t, "the settlement", func() bool { return d.proposer.waiting(g) == 1 })
		d.proposer.hold(g, false)
		v.want("OK", "OK")
		sink := newSink(t)
		d.proposer.hold(g, true)
		d.offer(sink, 0, plain("r", "x"))
		await(t, "the packet", func() bool { return d.proposer.waiting(g) == 1 })
		d.proposer.allow(g, 1) // the packet is applied; the grant that follows is not
		await(t, "the grant", func() bool { return sink.len() == 1 && d.proposer.waiting(g) == 1 })
		d.proposer.resign(g)
		pass(time.Second)
		d.proposer.hold(g, false)
		d.proposer.lead(g)
		start := time.Now()
		c := w.want(1, "[3]")
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("the lane stood still for %v", waited)
		}
		w.allDone(c)
		if n := w.Held(); n != 0 {
			t.Errorf("%d packets count as held", n)
		}
	})
}

// A worker that comes back to a new leader under its name gets what it had, and
// its credit counts each packet once.
func TestWorkerComesBackAcrossAChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 3)
		g := d.partition("r").Group()
		w := d.open(SessionConfig{Worker: "ci", Credit: 10})
		w.want(2, "[1 2]")
		d.proposer.resign(g)
		pass(time.Second)
		w.Close()
		w = d.open(SessionConfig{Worker: "ci", Credit: 10}) // while nobody leads
		pass(time.Second)
		w.nothing()
		d.proposer.lead(g)
		pass(time.Second)
		b := w.want(3, "[1 2 3]")
		if n := w.Held(); n != 3 {
			t.Errorf("%d packets count as held, want 3", n)
		}
		w.allDone(b)
		if n := w.Held(); n != 0 {
			t.Errorf("%d packets count as held at the end", n)
		}
	})
}
