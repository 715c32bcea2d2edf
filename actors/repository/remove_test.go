package repository

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func dropOf(g GroupID) func(*EntryBuilder) {
	return func(e *EntryBuilder) { e.AddDropGroup(g) }
}

// removeAll removes what deleted groups left, and says with how many entries.
func (c *cluster) removeAll(limit uint32) (entries int) {
	c.t.Helper()
	for {
		due, err := c.first().Due(c.now)
		if err != nil {
			c.t.Fatal(err)
		}
		if !due.Remove {
			return entries
		}
		if entries++; entries > 10_000 {
			c.t.Fatal("the removal does not end")
		}
		res := c.do(func(e *EntryBuilder) { e.AddRemove(limit) })
		if res.Worked < 1 || res.Worked > 2*int(limit) {
			c.t.Fatalf("a removal of %d worked on %d", limit, res.Worked)
		}
	}
}

// keysOf counts the records that a group has, by table.
func (c *cluster) keysOf(g GroupID) map[byte]int {
	out := map[byte]int{}
	id := string(appendU32(nil, uint32(g)))
	for k := range c.replicas[0].state.all() {
		switch k[2] {
		case tableGroup, tableLane, tableRunnable, tableLease, tableDead, tableAgain, tableParking:
			if k[3:7] == id {
				out[k[2]]++
			}
		case tableResult:
			if k[7:11] == id {
				out[k[2]]++
			}
		case tableDeadAge:
			if k[11:15] == id {
				out[k[2]]++
			}
		}
	}
	return out
}

// A deleted group leaves nothing behind: lanes, leases, dead letters, redriven
// packets, results, and packets that nobody else has still to settle.
func TestDeletedGroupLeavesNothing(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil, nil))
	for i := range 7 {
		c.publish(fmt.Sprintf("r%d", i), 5)
	}
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 100); e.AddBackfill(2, 100) })
	other := c.mustGrant(1, "r0", 2) // settles two of r0, which the second group has still to do
	c.settle(Settle{Group: 1, Repo: []byte("r0"), Token: other.Token, Through: 2})
	g := c.mustGrant(2, "r1", 4)
	c.settle(Settle{Group: 2, Repo: []byte("r1"), Token: g.Token, Through: 1, Kind: SettleDead, Failed: 2, Results: []SettleResult{leftWith(1, "left")}})
	g = c.mustGrant(2, "r2", 1)
	c.settle(Settle{Group: 2, Repo: []byte("r2"), Token: g.Token, Kind: SettleDead, Failed: 1})
	c.do(func(e *EntryBuilder) { e.AddDead(DeadRedrive, &DeadFilter{Group: 2, Repo: []byte("r2")}, 10) })
	open := c.mustGrant(2, "r3", 3)

	c.do(dropOf(2))
	if res := c.grant(2, "r4", 1); res.Code != UnknownGroup {
		t.Fatalf("a grant of a deleted group: %+v", res)
	}
	if out := c.settle(Settle{Group: 2, Repo: []byte("r3"), Token: open.Token, Through: 3}); out.Code != UnknownGroup {
		t.Fatalf("a settlement of a deleted group: %+v", out)
	}
	c.publish("r0", 1) // nobody's but the first group's
	c.replicas[1].restart()
	if n := c.removeAll(3); n < 7 {
		t.Errorf("%d entries of three sufficed", n)
	}
	if left := c.keysOf(2); len(left) != 0 {
		t.Errorf("left behind, by table: %v", left)
	}
	if info, _, _ := c.first().Repo([]byte("r0")); info.Backlog != 4 {
		t.Errorf("%d packets of r0 are kept, want the 4 that the first group has to do", info.Backlog)
	}
	if waiting, _ := c.depth(1); waiting[RankNormal] != 34 {
		t.Errorf("%v wait for the first group, want 34", waiting)
	}
	c.compare()
	for _, rep := range c.replicas {
		checkState(t, rep)
	}
	c.do(settings(nil, nil, nil)) // the partition forgets the id: meta never gives it again
	if waiting, dead := c.depth(2); waiting[RankNormal] != 34 || dead != 0 {
		t.Errorf("a group that begins now has %v, and %d dead letters", waiting, dead)
	}
}

// Packets of a group that was the only one go with it; what came since, and what it
// never asked for, stays until retention.
func TestDeletedGroupWasTheOnlyOne(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	c.publish("before", 2)
	c.do(settings(nil, func(g *GroupConfig) { g.Start = StartLatest }))
	c.publish("before", 2)
	c.publish("during", 3)
	c.do(dropOf(1))
	c.publish("during", 1)
	c.publish("after", 1)
	c.removeAll(2)
	for repo, want := range map[string]uint64{"before": 2, "during": 1, "after": 1} {
		if info, _, _ := c.first().Repo([]byte(repo)); info.Backlog != want {
			t.Errorf("%s keeps %d packets, want %d", repo, info.Backlog, want)
		}
	}
	c.compare()
	checkState(t, c.replicas[0])
}

// Whatever others do meanwhile, every count stays right, replicas agree, and in the
// end nothing is kept that nobody needs.
func TestDeletedGroupsAmongOthers(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			c := newCluster(t)
			c.do(settings(func(c *Config) { c.RetentionMs = 100 * day }))
			next, live := GroupID(1), []GroupID{}
			make := func(start Start) {
				g := DefaultGroupConfig(fmt.Sprint("g", next))
				g.ID, g.Start, g.MaxAttempts = next, start, 2
				g.OrderPolicy = OrderPolicy(rng.IntN(3))
				c.do(func(e *EntryBuilder) { e.AddSetGroup(&g); e.AddBackfill(g.ID, 100) })
				live, next = append(live, next), next+1
			}
			make(StartEarliest)
			work := func(g GroupID, repo string) {
				res := c.grant(g, repo, uint32(1+rng.IntN(6)))
				if res.Code != OK {
					return
				}
				s := Settle{Group: g, Repo: []byte(repo), Token: res.Token, Kind: SettleRelease}
				n := rng.IntN(len(res.Items) + 1)
				if n > 0 {
					s.Through = res.Items[n-1].Seq
				}
				if n < len(res.Items) && rng.IntN(3) == 0 {
					s.Kind, s.Failed = SettleDead, res.Items[n].Seq
				}
				if rng.IntN(8) > 0 { // else it stays leased
					c.settle(s)
				}
			}
			for range 150 {
				repo := fmt.Sprint("r", rng.IntN(4))
				c.now += int64(rng.IntN(50))
				switch k := rng.IntN(20); {
				case k < 6:
					var items []*PublishItem
					for range 1 + rng.IntN(6) {
						items = append(items, prioritized(Rank(rng.IntN(int(Ranks))), func(p *PublishItem) {
							if rng.IntN(6) == 0 {
								p.TTLMs = 300
							}
						}))
					}
					c.do(publishOf(repo, items...))
				case k < 13 && len(live) > 0:
					work(live[rng.IntN(len(live))], repo)
				case k < 15 && len(live) < 4:
					make(Start(rng.IntN(2)))
				case k < 16 && len(live) > 0:
					at := rng.IntN(len(live))
					c.do(dropOf(live[at]))
					live = append(live[:at], live[at+1:]...)
				case k < 18:
					c.do(func(e *EntryBuilder) { e.AddRemove(uint32(1 + rng.IntN(4))) })
				case k < 19 && len(live) > 0:
					c.do(func(e *EntryBuilder) {
						e.AddDead(DeadRedrive, &DeadFilter{Group: live[rng.IntN(len(live))]}, 3)
						e.AddPark(2)
					})
				default:
					c.do(func(e *EntryBuilder) { e.AddExpire(10) })
				}
				checkState(t, c.replicas[0])
				if rng.IntN(30) == 0 {
					c.replicas[1].restart()
				}
			}
			make(StartEarliest)
			last := live[len(live)-1]
			for _, g := range live[:len(live)-1] {
				c.do(dropOf(g))
			}
			c.removeAll(5)
			checkState(t, c.replicas[0])
			c.do(func(e *EntryBuilder) { e.AddBackfill(last, 100) })
			for i := range 4 {
				for repo := fmt.Sprint("r", i); ; {
					res := c.grant(last, repo, 50)
					if res.Code == Empty {
						break
					}
					if res.Code != OK {
						t.Fatalf("grant: %+v", res)
					}
					c.settle(Settle{Group: last, Repo: []byte(repo), Token: res.Token, Through: res.Items[len(res.Items)-1].Seq})
				}
			}
			if packets, bytes := c.first().Retained(); packets != 0 || bytes != 0 {
				t.Errorf("%d packets of %d bytes are kept for nobody", packets, bytes)
			}
			checkState(t, c.replicas[0])
			c.compare()
		})
	}
}
