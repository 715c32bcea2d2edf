package repository

import (
	"fmt"
	"testing"
)

// prioritized is a packet of a rank.
func prioritized(rank Rank, change ...func(*PublishItem)) *PublishItem {
	it := packet("content")
	it.Rank = rank
	for _, f := range change {
		f(it)
	}
	return it
}

func (c *cluster) grant(g GroupID, repo string, n uint32) GrantResult {
	c.t.Helper()
	return c.do(grantOf(g, repo, n)).Grants[0]
}

func (c *cluster) mustGrant(g GroupID, repo string, n uint32) GrantResult {
	c.t.Helper()
	res := c.grant(g, repo, n)
	if res.Code != OK {
		c.t.Fatalf("grant of %q: %+v", repo, res)
	}
	return res
}

func (c *cluster) settle(s Settle) SettleOutcome {
	c.t.Helper()
	return c.do(settleOf(s)).Settles[0]
}

func (c *cluster) depth(g GroupID) (waiting [Ranks]uint64, dead uint64) {
	c.first().Depths(func(x *GroupConfig, w [Ranks]uint64, d uint64) {
		if x.ID == g {
			waiting, dead = w, d
		}
	})
	return waiting, dead
}

func (c *cluster) runnable(g GroupID) []LaneEvent {
	c.t.Helper()
	lanes, _, _, err := c.first().Runnable(g, nil, c.now, 1000, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return lanes
}

// A packet that fails keeps its count of attempts when more urgent ones overtake
// it between them: else it would never be a dead letter.
func TestAttemptsSurviveOvertaking(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, func(g *GroupConfig) { g.MaxAttempts = 3 }))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.do(publishOf("a", prioritized(RankNormal), prioritized(RankNormal)))
	for attempt := uint32(1); attempt <= 3; attempt++ {
		g := c.mustGrant(1, "a", 4)
		if g.Rank != RankNormal || g.Attempt != attempt {
			t.Fatalf("attempt %d: %+v", attempt, g)
		}
		if attempt > 1 && len(g.Items) != 1 {
			t.Fatalf("attempt %d of a packet that failed comes with %d others", attempt, len(g.Items)-1)
		}
		out := c.settle(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Kind: SettleRetry, Failed: 1})
		if out.Code != OK || out.Dead != (attempt == 3) {
			t.Fatalf("attempt %d: %+v", attempt, out)
		}
		if out.Dead {
			break
		}
		c.do(publishOf("a", prioritized(RankHigh)))
		c.now += 10 * minute
		high := c.mustGrant(1, "a", 4)
		if high.Rank != RankHigh || high.Attempt != 1 {
			t.Fatalf("the urgent one: %+v", high)
		}
		c.settle(Settle{Group: 1, Repo: []byte("a"), Token: high.Token, Through: high.Items[0].Seq})
	}
	c.compare()
}

// A lane that backs off because of one packet does so although another one, of
// another priority, expires meanwhile.
func TestBackoffSurvivesExpiry(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, func(g *GroupConfig) { g.BackoffBaseMs = 5 * minute }))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.do(publishOf("a", prioritized(RankNormal)))
	g := c.mustGrant(1, "a", 1)
	c.settle(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Kind: SettleRetry, Failed: 1})
	c.do(publishOf("a", prioritized(RankHigh, func(p *PublishItem) { p.TTLMs = 1000 })))
	c.now += 2 * second
	c.do(func(e *EntryBuilder) { e.AddExpire(10) })
	if res := c.grant(1, "a", 1); res.Code != NotReady {
		t.Fatalf("the back-off ended with another packet's life: %+v", res)
	}
	c.compare()
}

// A worker may ask for a longer delay than the back-off, not for a shorter one, nor
// for one without end.
func TestRetryAfter(t *testing.T) {
	for _, x := range []struct{ after, want int64 }{
		{0, 10 * second}, {second, 10 * second}, {30 * second, 30 * second}, {48 * 60 * minute, 24 * 60 * minute},
	} {
		c := newCluster(t)
		c.do(settings(nil, func(g *GroupConfig) { g.BackoffBaseMs, g.JitterPercent = 10*second, 0 }))
		c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
		c.do(publishOf("a", prioritized(RankNormal)))
		g := c.mustGrant(1, "a", 1)
		failed := c.now
		c.settle(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Kind: SettleRetry, Failed: 1, RetryAfterMs: uint64(x.after)})
		c.now = failed + x.want - 1
		if res := c.grant(1, "a", 1); res.Code != NotReady {
			t.Errorf("after %d ms: granted %d ms after the failure: %+v", x.after, x.want-1, res)
		}
		c.now++
		c.mustGrant(1, "a", 1)
		c.compare()
	}
}

// A high packet that was delayed is served as one once its time has come, although
// the lane waits in the normal queue since before.
func TestDelayedPriority(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.do(publishOf("first", prioritized(RankNormal)))
	c.now += 10
	c.do(publishOf("a", prioritized(RankHigh, func(p *PublishItem) { p.DeliverAfterMs = 5000 }), prioritized(RankNormal)))
	list := func() string {
		s := ""
		for _, l := range c.runnable(1) {
			s += fmt.Sprintf("%s:%v ", l.Repo, l.Rank)
		}
		return s
	}
	if got, want := list(), "first:normal a:normal "; got != want {
		t.Fatalf("before its time: %q, want %q", got, want)
	}
	if _, _, next, _ := c.first().Runnable(1, nil, c.now, 100, nil); next != c.now+5000 {
		t.Fatalf("next ready at %d, want %d", next, c.now+5000)
	}
	c.now += 5000
	if got, want := list(), "a:high first:normal "; got != want {
		t.Fatalf("after it: %q, want %q", got, want)
	}
	if g := c.mustGrant(1, "a", 4); g.Rank != RankHigh {
		t.Fatalf("granted %+v", g)
	}
	if got, want := list(), "first:normal "; got != want {
		t.Fatalf("leased: %q, want %q", got, want)
	}
	c.compare()
}

// A settlement and the next grant of the same lane share an entry: the lane never
// shows as runnable, because it is not.
func TestSettleAndGrantInOneEntry(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.publish("a", 4)
	g := c.mustGrant(1, "a", 2)
	res := c.do(func(e *EntryBuilder) {
		e.AddSettle(&Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Through: 2})
		e.AddGrant(&Grant{Group: 1, Repo: []byte("a"), Session: []byte("w"), MaxItems: 2, MaxBytes: 1 << 20})
		e.AddGrant(&Grant{Group: 1, Repo: []byte("a"), Session: []byte("v"), MaxItems: 2, MaxBytes: 1 << 20})
	})
	if res.Settles[0].Code != OK || res.Grants[0].Code != OK || res.Grants[0].Items[0].Seq != 3 || res.Grants[1].Code != Leased {
		t.Fatalf("settled %+v, granted %+v", res.Settles, res.Grants)
	}
	if len(res.Lanes) != 0 {
		t.Fatalf("the lane is leased, and the leader hears that it can run: %+v", res.Lanes)
	}
	if writes := c.replicas[0].eff.Len(); writes > 8 {
		t.Errorf("%d writes for a settlement and a grant", writes)
	}
	c.compare()
}

// A lane whose last waiting packet is taken from its midst is not runnable any more.
func TestLaneEmptiedByExpiry(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1); e.AddBackfill(2, 1) })
	c.do(publishOf("a", packet("x"), prioritized(RankNormal, func(p *PublishItem) { p.TTLMs = 1000 })))
	g := c.mustGrant(1, "a", 1)
	c.now += 2000
	c.do(func(e *EntryBuilder) { e.AddExpire(10) }) // number 2 goes, from the midst of both lanes
	c.settle(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Through: 1})
	if lanes := c.runnable(1); len(lanes) != 0 {
		t.Fatalf("nothing waits, and yet %+v", lanes)
	}
	if lane := c.lane(1, "a"); lane.Waiting {
		t.Fatalf("lane: %+v", lane)
	}
	c.compare()
}

// Publishing into a long lane that a group, which starts at the end, has never
// touched costs as much as into a short one.
func TestLatestCostsNothing(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.publish("a", 300)
	c.do(settings(nil, nil, func(g *GroupConfig) { g.Start = StartLatest }))
	state := c.replicas[1].state // this one's cache holds next to nothing
	c.publish("b", 1)
	state.visits = 0
	c.publish("a", 1)
	if state.visits > 10 {
		t.Errorf("the first packet after the group's start visits %d records", state.visits)
	}
	if g := c.mustGrant(2, "a", 10); len(g.Items) != 1 || g.Items[0].Seq != 301 {
		t.Fatalf("latest got %+v", g)
	}
	c.compare()
}
