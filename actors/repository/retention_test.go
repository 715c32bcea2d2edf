package repository

import "testing"

// Retention and expiry end packets of lanes that the backfill has not reached: once,
// and counted once.
func TestRetentionBeforeBackfill(t *testing.T) {
	for name, end := range map[string]func(*EntryBuilder){
		"sweep":  func(e *EntryBuilder) { e.AddSweep(100) },
		"expire": func(e *EntryBuilder) { e.AddExpire(100) },
		"grant":  grantOf(2, "a", 10),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.do(settings(func(c *Config) { c.RetentionMs = 2 * hour }, nil))
			c.do(func(e *EntryBuilder) { e.AddBackfill(1, 10) })
			ttl := func(p *PublishItem) {
				if name != "sweep" {
					p.TTLMs = hour
				}
			}
			c.do(publishOf("a", prioritized(RankNormal, ttl), prioritized(RankNormal, ttl), prioritized(RankNormal)))
			c.do(settings(nil, nil, nil))
			if name != "sweep" { // holds the first packet, so that it can't just be removed
				c.mustGrant(1, "a", 2)
			}
			c.now += 3 * hour
			c.do(end)
			for g := GroupID(1); g <= 2; g++ {
				list, _, err := c.first().DeadLetters(g, nil, nil, 10)
				if err != nil {
					t.Fatal(err)
				}
				waiting, dead := c.depth(g)
				if int(dead) != len(list) || int(waiting[RankNormal]) != 3-len(list) {
					t.Fatalf("group %d: %d dead letters, counted %d, and %v of 3 wait", g, len(list), dead, waiting)
				}
			}
			c.compare()
		})
	}
}

// What was there before the only group, which starts at the end, was asked for by
// nobody: it stays until its retention, ends with it, and is counted.
func TestRetentionOfUnasked(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	c.publish("a", 3)
	c.do(settings(nil, func(g *GroupConfig) { g.Start = StartLatest }))
	c.publish("a", 2)
	g := c.mustGrant(1, "a", 10)
	if len(g.Items) != 2 {
		t.Fatalf("latest got %+v", g)
	}
	res := c.do(settleOf(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Through: 5}))
	if info, _, _ := c.first().Repo([]byte("a")); info.Backlog != 3 || res.Dropped != 0 {
		t.Fatalf("the other group's settlement took what nobody asked for: %+v, dropped %d", info, res.Dropped)
	}
	c.now += 8 * day
	for round := 0; ; round++ {
		due, err := c.first().Due(c.now)
		if err != nil || round > 3 {
			t.Fatalf("the sweep is due for ever: %v", err)
		}
		if !due.Sweep {
			break
		}
		if res := c.do(func(e *EntryBuilder) { e.AddSweep(100) }); round == 0 && res.Dropped != 3 {
			t.Fatalf("dropped %d, want 3", res.Dropped)
		}
	}
	if info, _, _ := c.first().Repo([]byte("a")); info.Backlog != 0 {
		t.Fatalf("left after retention: %+v", info)
	}
	c.compare()
}

// An expired packet that nobody asked for is counted as dropped.
func TestExpiryOfUnasked(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	c.do(publishOf("a", prioritized(RankNormal, func(p *PublishItem) { p.TTLMs = 1000 })))
	c.do(settings(nil, func(g *GroupConfig) { g.Start = StartLatest }))
	c.now += 2000
	if res := c.do(func(e *EntryBuilder) { e.AddExpire(10) }); res.Dropped != 1 || len(res.Ended) != 0 {
		t.Fatalf("dropped %d, ended %+v", res.Dropped, res.Ended)
	}
	c.compare()
}

// The smallest limit makes progress too.
func TestSweepOfOne(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	c.publish("a", 3)
	c.publish("b", 2)
	c.now += 8 * day
	for round := 0; ; round++ {
		if packets, _ := c.first().Retained(); packets == 0 {
			break
		}
		if round > 20 {
			t.Fatal("sweeps of one packet do not end")
		}
		c.do(func(e *EntryBuilder) { e.AddSweep(1) })
	}
	c.compare()
}

// A run of which nothing is retained has no record, whatever the order in which its
// packets ended.
func TestNoRunIsLeft(t *testing.T) {
	c := newCluster(t)
	c.do(settings(func(c *Config) { c.RetentionMs = hour }))
	c.do(publishOf("a", packet("x"), prioritized(RankNormal, func(p *PublishItem) { p.TTLMs = 1000 }),
		prioritized(RankNormal, func(p *PublishItem) { p.TTLMs = hour })))
	c.do(func(e *EntryBuilder) {
		e.AddConfigure(&Config{Version: 2, DedupWindowMs: hour, RetentionBytes: 8, RetentionMs: day, BacklogPackets: 9, BacklogBytes: 999})
	})
	c.do(func(e *EntryBuilder) { e.AddSweep(3) }) // by bytes: the first goes
	c.now += 2 * hour
	c.do(func(e *EntryBuilder) { e.AddExpire(10) })
	if packets, bytes := c.first().Retained(); packets != 0 || bytes != 0 {
		t.Fatalf("%d packets of %d bytes are left", packets, bytes)
	}
	for k := range c.replicas[0].state.all() {
		if k[2] == tableRun {
			t.Fatalf("a run is left: %x", k)
		}
	}
	c.compare()
}

// What an entry publishes behind a new group's start belongs to the time before it.
func TestGroupStartWithinItsEntry(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	c.do(func(e *EntryBuilder) {
		settings(nil, func(g *GroupConfig) { g.Start = StartLatest })(e)
		publishOf("a", packet("x"))(e)
	})
	if waiting, _ := c.depth(1); waiting[RankNormal] != 0 || len(c.runnable(1)) != 0 {
		t.Fatalf("%v wait, runnable %v", waiting, c.runnable(1))
	}
	c.publish("a", 1)
	if waiting, _ := c.depth(1); waiting[RankNormal] != 1 || len(c.runnable(1)) != 1 {
		t.Fatalf("%v wait, runnable %v", waiting, c.runnable(1))
	}
	c.compare()
}

// A group that is made, and finds what is there, in the entry that also publishes:
// whatever their order, the packets are announced and listed.
func TestBackfillWithinItsEntry(t *testing.T) {
	group, backfill := settings(nil, nil), func(e *EntryBuilder) { e.AddBackfill(1, 10) }
	publish := publishOf("a", packet("x"))
	for name, order := range map[string][]func(*EntryBuilder){
		"publish, group, backfill": {publish, group, backfill},
		"group, publish, backfill": {group, publish, backfill},
		"group, backfill, publish": {group, backfill, publish},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.do(settings(nil))
			res := c.do(func(e *EntryBuilder) {
				for _, add := range order {
					add(e)
				}
			})
			if waiting, _ := c.depth(1); waiting[RankNormal] != 1 || len(res.Lanes) != 1 || len(c.runnable(1)) != 1 {
				t.Fatalf("%v wait, announced %v, runnable %v", waiting, res.Lanes, c.runnable(1))
			}
			c.compare()
		})
	}
}
