package repository

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/waystation/waystation/messages/envelope"
)

// settings is the first entry of a partition, with what a test changes.
func settings(cfg func(*Config), groups ...func(*GroupConfig)) func(*EntryBuilder) {
	return func(e *EntryBuilder) {
		c := DefaultConfig()
		if cfg != nil {
			cfg(&c)
		}
		e.AddConfigure(&c)
		for i, change := range groups {
			g := DefaultGroupConfig(fmt.Sprintf("g%d", i+1))
			g.ID = GroupID(i + 1)
			if change != nil {
				change(&g)
			}
			e.AddSetGroup(&g)
		}
	}
}

func grantOf(g GroupID, repo string, n uint32) func(*EntryBuilder) {
	return func(e *EntryBuilder) {
		e.AddGrant(&Grant{Group: g, Repo: []byte(repo), Session: []byte("w"), MaxItems: n, MaxBytes: 1 << 20, LeaseMs: 1000})
	}
}

// leftWith is a result as a settlement has it, of a packet without a kind or an id.
func leftWith(seq Seq, data string) SettleResult {
	return SettleResult{seq, (&Left{Data: []byte(data)}).Append(nil)}
}

func settleOf(s Settle) func(*EntryBuilder) { return func(e *EntryBuilder) { e.AddSettle(&s) } }

func (c *cluster) publish(repo string, n int) {
	c.t.Helper()
	for range n {
		if res := c.do(publishOf(repo, packet("content"))).Publish; res[0].Code != OK {
			c.t.Fatalf("publish: %+v", res[0])
		}
	}
}

// Packets that a group never settled become its dead letters at retention, and
// those end with their own; without a group they are dropped, and counted.
func TestRetention(t *testing.T) {
	c := newCluster(t)
	c.do(settings(func(c *Config) { c.RetentionMs, c.DeadRetentionMs = 2*hour, 5*hour }, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 10) })
	c.publish("a", 3)
	c.do(grantOf(1, "a", 1))
	c.now += 3 * hour
	if due, err := c.first().Due(c.now); err != nil || due.Expire || !due.Sweep {
		t.Fatalf("due: %+v, %v", due, err)
	}
	c.do(func(e *EntryBuilder) { e.AddSweep(100) })
	if info, _, _ := c.first().Repo([]byte("a")); info.Backlog != 3 {
		t.Fatalf("a live grant was swept: %+v", info)
	}
	token := c.lane(1, "a").Token
	c.do(settleOf(Settle{Group: 1, Repo: []byte("a"), Token: token, Kind: SettleRelease}))
	c.now += 2 * second
	res := c.do(func(e *EntryBuilder) { e.AddSweep(100) })
	if len(res.Ended) != 1 || res.Ended[0] != (Ended{1, ReasonRetention, 3}) {
		t.Fatalf("ended: %+v", res.Ended)
	}
	dead, _, err := c.first().DeadLetters(1, nil, nil, 10)
	if err != nil || len(dead) != 3 || dead[0].Reason != ReasonRetention {
		t.Fatalf("dead letters: %+v, %v", dead, err)
	}
	if lane := c.lane(1, "a"); lane.Waiting {
		t.Fatalf("lane after the sweep: %+v", lane)
	}
	c.now += 6 * hour
	if res := c.do(func(e *EntryBuilder) { e.AddSweep(2) }); res.Dropped != 2 {
		t.Fatalf("a sweep of two dropped %d", res.Dropped)
	}
	c.do(func(e *EntryBuilder) { e.AddSweep(2) })
	if dead, _, _ := c.first().DeadLetters(1, nil, nil, 10); len(dead) != 0 {
		t.Fatalf("dead letters past their retention: %+v", dead)
	}
	c.compare()
}

func (c *cluster) lane(g GroupID, repo string) LaneInfo {
	c.t.Helper()
	l, err := c.first().Lane(g, []byte(repo))
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

func TestRetentionWithoutGroups(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	c.publish("a", 3)
	c.now += 8 * day
	c.publish("a", 1)
	if res := c.do(func(e *EntryBuilder) { e.AddSweep(100) }); res.Dropped != 3 {
		t.Fatalf("dropped %d, want 3", res.Dropped)
	}
	if info, _, _ := c.first().Repo([]byte("a")); info.Backlog != 1 || info.Head != 4 {
		t.Fatalf("after the sweep: %+v", info)
	}
	c.compare()
}

func TestRetentionByBytes(t *testing.T) {
	c := newCluster(t)
	c.do(settings(func(c *Config) { c.RetentionBytes = 10 * uint64(len("content")) }))
	for i := range 30 {
		c.publish(fmt.Sprintf("r%d", i%3), 1)
		c.now += second
	}
	for range 10 {
		c.do(func(e *EntryBuilder) { e.AddSweep(100) })
	}
	if packets, bytes := c.first().Retained(); packets != 10 || bytes != 70 {
		t.Fatalf("%d packets of %d bytes are left, want the limit's 10", packets, bytes)
	}
	c.compare()
}

// A group's start: earliest sees what is retained, through the backfill, and
// latest only what comes after it.
func TestGroupStart(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	for i := range 5 {
		c.publish(fmt.Sprintf("r%d", i), 2)
	}
	c.do(settings(nil, nil, func(g *GroupConfig) { g.Start = StartLatest }))
	rounds := 0
	for c.first().Backfilling(1) {
		c.do(func(e *EntryBuilder) { e.AddBackfill(1, 2) })
		rounds++
	}
	if rounds != 3 {
		t.Errorf("%d rounds of two for five repositories", rounds)
	}
	lanes := func(g GroupID) int {
		got, next, _, err := c.first().Runnable(g, nil, c.now, 100, nil)
		if err != nil || next != nil {
			t.Fatalf("runnable: %v, next %x", err, next)
		}
		return len(got)
	}
	if a, b := lanes(1), lanes(2); a != 5 || b != 0 {
		t.Fatalf("earliest has %d lanes, latest %d", a, b)
	}
	c.publish("r0", 1)
	if res := c.do(grantOf(2, "r0", 10)).Grants[0]; res.Code != OK || len(res.Items) != 1 || res.Items[0].Seq != 3 {
		t.Fatalf("latest got %+v", res)
	}
	if res := c.do(grantOf(1, "r0", 10)).Grants[0]; res.Code != OK || len(res.Items) != 3 {
		t.Fatalf("earliest got %+v", res)
	}
	c.compare()
}

// The runnable index is read in pages, in the order of service.
func TestRunnablePages(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	var want []string
	for i := range 7 {
		c.now += 10
		c.publish(fmt.Sprintf("r%d", 6-i), 1)
		want = append(want, fmt.Sprintf("r%d", 6-i))
	}
	high, later := packet("x"), packet("x")
	high.Rank, later.DeliverAfterMs = RankHigh, 5000
	c.do(publishOf("urgent", high))
	c.do(publishOf("later", later))
	want = append([]string{"urgent"}, want...)
	var got []string
	var after []byte
	for {
		page, next, ready, err := c.first().Runnable(1, after, c.now, 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page {
			got = append(got, l.Repo)
		}
		if next == nil {
			if ready != c.now+5000 {
				t.Errorf("next ready at %d, want %d", ready, c.now+5000)
			}
			break
		}
		after = next
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("order %v, want %v", got, want)
	}
}

func TestProducerRecordsExpire(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	at := func(seq uint64) *PublishItem {
		it := packet("x")
		it.Producer, it.Epoch, it.Sequence = []byte("p"), 1, seq
		return it
	}
	c.do(publishOf("a", at(1)))
	c.now += 4 * day
	c.do(publishOf("a", at(2)))
	c.now += 4 * day
	c.do(func(e *EntryBuilder) { e.AddHousekeep(10) })
	if res := c.do(publishOf("a", at(3))).Publish[0]; res.Code != OK {
		t.Fatalf("a producer that was seen 4 days ago: %+v", res)
	}
	c.now += 8 * day
	c.do(func(e *EntryBuilder) { e.AddHousekeep(10) })
	if res := c.do(publishOf("a", at(4))).Publish[0]; res.Code != UnknownProducer {
		t.Fatalf("a producer idle for 8 days: %+v", res)
	}
	c.compare()
}

// A stable producer's older epochs are refused everywhere once it was opened again.
func TestFence(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	at := func(epoch, seq uint64) *PublishItem {
		it := packet("x")
		it.Producer, it.Epoch, it.Sequence = []byte("p"), epoch, seq
		return it
	}
	c.do(publishOf("a", at(1, 1)))
	c.do(func(e *EntryBuilder) { e.AddFence([]byte("p"), 2) })
	c.replicas[1].restart()
	if epoch, last, known, err := c.first().Position([]byte("a"), []byte("p")); epoch != 2 || last != 0 || !known || err != nil {
		t.Fatalf("position under a fence: epoch %d, last %d, known %v, %v", epoch, last, known, err)
	}
	for _, repo := range []string{"a", "never seen"} {
		if res := c.do(publishOf(repo, at(1, 2), at(1, 1), at(2, 1))).Publish; res[0].Code != Fenced || res[1].Code != Fenced || res[2].Code != OK {
			t.Fatalf("%s: %+v", repo, res)
		}
	}
	if seq, code, err := c.first().Receipt([]byte("a"), []byte("p"), 1, 1); code != Fenced || err != nil {
		t.Fatalf("receipt of a fenced epoch: %d, %v, %v", seq, code, err)
	}
	c.compare()
}

// Of 1,024 positions the receipts are kept, however the numbers interleave.
func TestPositionWindow(t *testing.T) {
	for _, interleaved := range []bool{false, true} {
		t.Run(fmt.Sprint(interleaved), func(t *testing.T) {
			c := newCluster(t)
			c.do(settings(nil))
			want := map[uint64]Seq{}
			for pos := uint64(1); pos <= 3000; {
				var items []*PublishItem
				for range 8 {
					items = append(items, positioned("p", 1, pos+uint64(len(items))))
				}
				if interleaved {
					for i := range items {
						items = slices.Insert(items, 2*i+1, packet("other"))
					}
				}
				for i, res := range c.do(publishOf("a", items...)).Publish {
					if len(items[i].Producer) > 0 {
						want[pos] = res.Seq
						pos++
					}
				}
			}
			for pos := uint64(1); pos <= 3000; pos++ {
				seq, code, err := c.first().Receipt([]byte("a"), []byte("p"), 1, pos)
				if err != nil {
					t.Fatal(err)
				}
				if code == Duplicate && seq != want[pos] || code != Duplicate && code != TooOld {
					t.Fatalf("position %d: %d, code %d; want %d", pos, seq, code, want[pos])
				}
				if pos > 3000-1024 && code != Duplicate {
					t.Fatalf("position %d of the last 1,024 has no receipt", pos)
				}
			}
			p := c.first().repos.byID["a"].producers["p"]
			if len(p.runs) > 1025 || !interleaved && p.runs[0].n > 2048 {
				t.Fatalf("%d runs, the first of %d", len(p.runs), p.runs[0].n)
			}
		})
	}
}

func TestBacklogLimit(t *testing.T) {
	c := newCluster(t)
	c.do(settings(func(c *Config) { c.BacklogPackets, c.BacklogBytes = 3, 100 }, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	big := packet(strings.Repeat("x", 150))
	if res := c.do(publishOf("big", big, big)).Publish; res[0].Code != OK || res[1].Code != BacklogFull {
		t.Fatalf("one packet in any case, and no second: %+v", res)
	}
	c.publish("a", 3)
	if res := c.do(publishOf("a", packet("x"))).Publish[0]; res.Code != BacklogFull {
		t.Fatalf("fourth of three: %+v", res)
	}
	grant := c.do(grantOf(1, "a", 1)).Grants[0]
	c.do(settleOf(Settle{Group: 1, Repo: []byte("a"), Token: grant.Token, Through: 1}))
	c.publish("a", 1)
}

// An attempt is charged to the head, at the grant; the others of the batch go back
// free; after a failure the head comes alone.
func TestAttempts(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, func(g *GroupConfig) { g.MaxAttempts = 3 }))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.publish("a", 4)
	g := c.do(grantOf(1, "a", 4)).Grants[0]
	if len(g.Items) != 4 || g.Attempt != 1 {
		t.Fatalf("first grant: %+v", g)
	}
	c.do(settleOf(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Through: 1, Kind: SettleRetry, Failed: 2, Error: []byte("boom")}))
	if res := c.do(grantOf(1, "a", 4)).Grants[0]; res.Code != NotReady {
		t.Fatalf("grant in the back-off: %+v", res)
	}
	for attempt := uint32(2); attempt <= 3; attempt++ {
		c.now += 10 * minute
		g = c.do(grantOf(1, "a", 4)).Grants[0]
		if len(g.Items) != 1 || g.Items[0].Seq != 2 || g.Attempt != attempt {
			t.Fatalf("attempt %d: %+v", attempt, g)
		}
		c.do(settleOf(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Kind: SettleExpire}))
	}
	d, ok, err := c.first().Dead(1, []byte("a"), 2)
	if err != nil || !ok || d.Reason != ReasonAttempts || d.Attempts != 3 || d.Error() != "lease expired" {
		t.Fatalf("dead letter: %+v, %v, %v", d, ok, err)
	}
	if g = c.do(grantOf(1, "a", 4)).Grants[0]; len(g.Items) != 2 || g.Attempt != 1 {
		t.Fatalf("after the dead letter: %+v", g)
	}
	c.do(settleOf(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Kind: SettleRelease}))
	if g = c.do(grantOf(1, "a", 4)).Grants[0]; g.Attempt != 1 {
		t.Fatalf("a release was charged: %+v", g)
	}
	c.do(settleOf(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Through: 4, Results: []SettleResult{leftWith(3, "built")}}))
	if r, ok, err := c.first().ResultOf(1, []byte("a"), 3); err != nil || !ok || string(r.Data) != "built" {
		t.Fatalf("result: %+v, %v, %v", r, ok, err)
	}
	c.compare()
}

// An entry that was proposed in another term does nothing, but is applied.
func TestAnotherTermIsVoid(t *testing.T) {
	r := newReplica(t, Options{})
	data := entry(5, publishOf("a", packet("x")))
	envelope.Envelope{Version: envelope.Version1, Term: 9, TimeMs: 5}.Put(data)
	if res := r.apply(1, data); !res.Void || len(res.Publish) != 0 {
		t.Fatalf("results: %+v", res)
	}
	if _, ok, _ := r.m.Repo([]byte("a")); ok || r.m.Applied() != 1 {
		t.Fatalf("applied %d, repository known: %v", r.m.Applied(), ok)
	}
}

// What this build does not know stops the replica, and says why.
func TestUnknownStops(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"command": func(b []byte) { b[envelope.Size] = 200 },
		"version": func(b []byte) { b[envelope.Size+1] = 2 },
		"short":   func(b []byte) { b[envelope.Size+2]++ },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica(t, Options{})
			data := entry(5, publishOf("a", packet("x")))
			change(data)
			err := r.m.Apply(1, 1, data, &r.eff)
			if err == nil {
				t.Fatal("it was skipped")
			}
			if name != "short" && !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("no remedy in %q", err)
			}
		})
	}
	r := newReplica(t, Options{})
	r.apply(7, nil)
	if err := r.m.Apply(7, 1, nil, &r.eff); err == nil {
		t.Fatal("an entry was applied twice")
	}
}

// A damaged record is found when it is read, and named.
func TestDamagedRecord(t *testing.T) {
	r := newReplica(t, Options{})
	r.apply(1, entry(5, settings(nil, nil)))
	r.apply(2, entry(5, publishOf("a", packet("x"))))
	for k := range r.state.all() {
		if k[2] == tableRun {
			r.state.set([]byte(k), []byte{version1, 0xff})
		}
	}
	r.eff.Reset()
	err := r.m.Apply(3, 1, entry(6, grantOf(1, "a", 1)), &r.eff)
	var damaged *CorruptError
	if !errors.As(err, &damaged) || damaged.Key[2] != tableRun {
		t.Fatalf("grant over a damaged run: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	g := DefaultGroupConfig("g")
	for failed := uint32(1); failed < 40; failed++ {
		want := min(float64(second)*float64(uint64(1)<<min(failed-1, 30)), float64(5*minute))
		low, high := int64(want*0.8)-1, int64(want*1.2)+1
		seen := map[int64]bool{}
		for seed := range uint64(200) {
			d := g.backoff(failed, seed)
			if d < low || d > high {
				t.Fatalf("failure %d: %d ms, want %d to %d", failed, d, low, high)
			}
			seen[d] = true
		}
		if len(seen) < 20 {
			t.Errorf("failure %d: %d different delays of 200", failed, len(seen))
		}
	}
}
