package repository

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
)

func withID(id string) *PublishItem {
	it := packet("content")
	it.ID = []byte(id)
	return it
}

func positioned(producer string, epoch, position uint64) *PublishItem {
	it := packet("content")
	it.Producer, it.Epoch, it.Sequence = []byte(producer), epoch, position
	return it
}

func (c *cluster) publishOne(repo string, it *PublishItem) PublishResult {
	c.t.Helper()
	return c.do(publishOf(repo, it)).Publish[0]
}

// An id is found until its window is over to the millisecond, across buckets and
// housekeeping, and in seven buckets at most, whatever becomes of the window.
func TestIDWindow(t *testing.T) {
	c := newCluster(t)
	window := int64(hour)
	c.do(settings(nil))
	firstAt, seqs := map[string]int64{}, map[string]Seq{}
	version := uint64(1)
	for round := range 3000 {
		c.now += int64(round * 7919 % 97_000)
		if round%1000 == 999 { // the window changes under way
			version++
			cfg := DefaultConfig()
			cfg.Version = version
			cfg.DedupWindowMs = []uint64{2 * minute, 3 * hour}[version%2]
			window = int64(cfg.DedupWindowMs)
			c.do(func(e *EntryBuilder) { e.AddConfigure(&cfg) })
			firstAt = map[string]int64{} // what an older window forgot is not promised
		}
		id := fmt.Sprint("id", round*31%700)
		res := c.publishOne("a", withID(id))
		at, known := firstAt[id]
		switch known = known && at+window > c.now; {
		case known && (res.Code != Duplicate || res.Seq != seqs[id]):
			t.Fatalf("round %d: %s, accepted %d ms ago as %d: %+v", round, id, c.now-at, seqs[id], res)
		case res.Code == OK:
			firstAt[id], seqs[id] = c.now, res.Seq
		case !known && firstAt[id] != 0:
			t.Fatalf("round %d: %s was forgotten %d ms ago, and yet: %+v", round, id, c.now-at-window, res)
		}
		if round%13 == 0 {
			c.do(func(e *EntryBuilder) { e.AddHousekeep(10) })
		}
		if round%50 == 0 {
			c.replicas[round/50%2].restart()
		}
		if n := len(c.first().buckets); n > 7 {
			t.Fatalf("round %d: %d buckets", round, n)
		}
	}
	c.compare()
}

// The window ends at its millisecond, wherever in its bucket an id lies, and whether
// housekeeping came by meanwhile or not.
func TestIDWindowEdge(t *testing.T) {
	type look struct {
		at   int64
		id   int
		want Code
	}
	var looks []look
	const bucket = hour / 6
	for i := range 8 * 13 {
		at := int64(i/8)*bucket + []int64{0, 1, 97, 300, 450, 598, 599, 600}[i%8]*second
		if i%8 >= 6 {
			at-- // the last millisecond of a bucket, for one
		}
		looks = append(looks, look{at, i, OK}, look{at + hour - 1, i, Duplicate}, look{at + hour, i, OK})
	}
	slices.SortStableFunc(looks, func(a, b look) int { return cmp.Compare(a.at, b.at) })
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprintf("housekeeping=%v", kept), func(t *testing.T) {
			c := newCluster(t)
			c.do(settings(nil))
			start, seqs := c.now, map[int]Seq{}
			for _, x := range looks {
				c.now = start + x.at
				if kept {
					c.do(func(e *EntryBuilder) { e.AddHousekeep(10) })
				}
				res := c.publishOne("a", withID(fmt.Sprint("id", x.id)))
				if res.Code != x.want || x.want == Duplicate && res.Seq != seqs[x.id] {
					t.Fatalf("id%d after %d ms: %+v, want code %d", x.id, x.at, res, x.want)
				}
				seqs[x.id] = res.Seq
			}
		})
	}
}

// An id that comes twice in one entry is a duplicate the second time; a duplicate
// advances its producer's position, and a refused packet does not.
func TestDuplicatesWithinAnEntry(t *testing.T) {
	c := newCluster(t)
	c.do(settings(func(c *Config) { c.BacklogPackets = 3 }))
	first, again := withID("x"), positioned("p", 1, 1)
	again.ID, again.ContentCRC = []byte("x"), 99
	res := c.do(publishOf("a", first, again, positioned("p", 1, 2), positioned("p", 1, 3), positioned("p", 1, 4), positioned("p", 1, 5), positioned("p", 1, 3))).Publish
	want := []PublishResult{
		{Seq: 1},
		{Seq: 1, Code: Duplicate, ContentDiffers: true},
		{Seq: 2},
		{Seq: 3},
		{Code: BacklogFull},
		{Code: Gap, Expected: 4},
		{Seq: 3, Code: Duplicate},
	}
	for i := range want {
		if res[i] != want[i] {
			t.Errorf("packet %d: %+v, want %+v", i, res[i], want[i])
		}
	}
	if res := c.publishOne("a", again); res.Code != Duplicate || res.Seq != 1 {
		t.Errorf("a resend into a full backlog: %+v", res)
	}
	c.compare()
}

// Producers that take turns within an entry have their records written once each.
func TestProducersTakeTurns(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	var items []*PublishItem
	for i := range uint64(20) {
		items = append(items, positioned(fmt.Sprint("p", i%2), 1, i/2+1))
	}
	c.do(publishOf("a", items...))
	writes := 0
	c.replicas[0].eff.Each(func(_ OpKind, k, _ []byte) {
		if k[2] == tableProducer {
			writes++
		}
	})
	if writes != 2 {
		t.Errorf("%d writes of two producers' records", writes)
	}
	c.replicas[0].restart()
	for i := range uint64(20) {
		seq, code, err := c.first().Receipt([]byte("a"), fmt.Appendf(nil, "p%d", i%2), 1, i/2+1)
		if err != nil || code != Duplicate || seq != Seq(i+1) {
			t.Errorf("packet %d: number %d, code %d, %v", i, seq, code, err)
		}
	}
}

// A producer that is dropped and comes back in the same entry is a new one, and
// will be dropped again.
func TestProducerComesBackWithinAnEntry(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	c.publishOne("a", positioned("p", 1, 1))
	c.now += 8 * day
	res := c.do(func(e *EntryBuilder) {
		e.AddHousekeep(10)
		publishOf("a", positioned("p", 1, 2), positioned("p", 1, 1))(e)
	}).Publish
	if res[0].Code != UnknownProducer || res[1].Code != OK {
		t.Fatalf("after the housekeeping: %+v", res)
	}
	c.now += 8 * day
	c.do(func(e *EntryBuilder) { e.AddHousekeep(10) })
	if res := c.publishOne("a", positioned("p", 1, 2)); res.Code != UnknownProducer {
		t.Fatalf("idle for 8 days: %+v", res)
	}
	for k := range c.replicas[0].state.all() {
		if k[2] == tableProducer || k[2] == tableIdle {
			t.Fatalf("left of the producer: %x", k)
		}
	}
	c.compare()
}

// Fences end when nobody can meet them any more, few at a time, and housekeeping is
// due for them.
func TestFencesEnd(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil))
	c.do(func(e *EntryBuilder) {
		for i := range 5 {
			e.AddFence(fmt.Appendf(nil, "p%d", i), 3)
		}
	})
	c.now += 4 * day
	c.do(func(e *EntryBuilder) { e.AddFence([]byte("p0"), 4) })
	c.now += 4 * day
	if due, err := c.first().Due(c.now); err != nil || !due.Housekeep {
		t.Fatalf("housekeeping due: %v, %v", due, err)
	}
	if res := c.do(func(e *EntryBuilder) { e.AddHousekeep(3) }); res.Worked != 3 {
		t.Fatalf("worked %d, want the limit's 3", res.Worked)
	}
	c.replicas[0].restart()
	if res := c.do(func(e *EntryBuilder) { e.AddHousekeep(3) }); res.Worked != 1 {
		t.Fatalf("worked %d, want 1: p0 was fenced again since", res.Worked)
	}
	if due, err := c.first().Due(c.now); err != nil || due.Housekeep {
		t.Fatalf("housekeeping due: %v, %v", due, err)
	}
	if res := c.publishOne("a", positioned("p0", 3, 1)); res.Code != Fenced {
		t.Fatalf("an epoch that was fenced 4 days ago: %+v", res)
	}
	if res := c.publishOne("a", positioned("p1", 2, 1)); res.Code != OK {
		t.Fatalf("a fence of 8 days ago: %+v", res)
	}
	c.compare()
}
