package repository

import (
	"fmt"
	"testing"
)

// resultOf is a result that must be there, or must not.
func (c *cluster) resultOf(seq Seq, want string) {
	c.t.Helper()
	x, ok, err := c.first().ResultOf(1, []byte("a"), seq)
	if err != nil || ok != (want != "") || ok && string(x.Data) != want {
		c.t.Fatalf("result of %d at %d: %+v, %v, %v, want %q", seq, c.now, x, ok, err, want)
	}
}

func (c *cluster) settleWith(left *Left) Seq {
	c.t.Helper()
	g := c.mustGrant(1, "a", 1)
	seq := g.Items[0].Seq
	out := c.settle(Settle{
		Group: 1, Repo: []byte("a"), Token: g.Token, Through: seq, Results: []SettleResult{{seq, left.Append(nil)}},
	})
	if out.Code != OK {
		c.t.Fatalf("settle %d: %+v", seq, out)
	}
	return seq
}

// A result ends to the millisecond, by its group's time to live or its kind's, whether
// it was swept or not, and whatever the group's settings become after it was settled.
func TestResultTimeToLive(t *testing.T) {
	for _, x := range []struct {
		name   string
		kind   string
		change func(g *GroupConfig)
		want   int64
	}{
		{"the cluster's", "", nil, hour},
		{"the group's", "", func(g *GroupConfig) { g.ResultTTLMs = 2 * minute }, 2 * minute},
		{"the kind's", "review", func(g *GroupConfig) { g.ResultTTLMs = 2 * minute; g.SetKindTTL("review", 7*hour) }, 7 * hour},
		{"another kind's", "index", func(g *GroupConfig) { g.ResultTTLMs = 2 * minute; g.SetKindTTL("review", 7*hour) }, 2 * minute},
		{"taken back", "review", func(g *GroupConfig) { g.SetKindTTL("review", 7*hour); g.SetKindTTL("review", 0) }, hour},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCluster(t)
			c.do(settings(nil, x.change))
			c.publish("a", 1)
			seq := c.settleWith(&Left{Kind: []byte(x.kind), Packed: true, Data: []byte("ok")})
			c.do(func(e *EntryBuilder) {
				g := DefaultGroupConfig("g1")
				g.ID, g.Version, g.ResultTTLMs = 1, 2, second
				e.AddSetGroup(&g)
			})
			for _, after := range []int64{0, x.want - 1} {
				c.now += after
				c.do(func(e *EntryBuilder) { e.AddHousekeep(100) })
				c.resultOf(seq, "ok")
			}
			if got, _, _ := c.first().ResultOf(1, []byte("a"), seq); !got.Packed || got.UntilMs != c.now+1 {
				t.Fatalf("result: %+v, now %d", got, c.now)
			}
			c.now++
			c.publish("a", 1) // log time goes on
			c.resultOf(seq, "")
			c.now += 10 * hour
			if due, err := c.first().Due(c.now); err != nil || !due.Housekeep {
				t.Fatalf("due: %+v, %v", due, err)
			}
			c.do(func(e *EntryBuilder) { e.AddHousekeep(100) })
			for k := range c.replicas[0].state.all() {
				if k[2] == tableResult {
					t.Fatalf("not swept: %x", k)
				}
			}
			c.compare()
		})
	}
}

// A resend under the id of a packet whose result is kept is a duplicate, long after the
// dedup window that began when it was accepted.
func TestResultKeepsItsID(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, func(g *GroupConfig) { g.ResultTTLMs = 5 * hour; g.SetKindTTL("short", minute) }))
	resend := func(id string, code Code, seq Seq) {
		t.Helper()
		if res := c.publishOne("a", withID(id)); res.Code != code || res.Seq != seq || res.ContentDiffers {
			t.Fatalf("resend of %s at %d: %+v", id, c.now, res)
		}
	}
	resend("long", OK, 1)
	resend("short", OK, 2)
	c.now += 50 * minute
	crc := withID("x").ContentCRC
	c.settleWith(&Left{ID: []byte("long"), ContentCRC: crc, Data: []byte("1")})
	c.settleWith(&Left{Kind: []byte("short"), ID: []byte("short"), ContentCRC: crc, Data: []byte("2")})
	c.now += 10*minute - 1
	resend("short", Duplicate, 2) // its window is not cut short by its result's end
	c.now++
	resend("short", OK, 3)
	for range 9 { // housekeeping leaves it alone for as long as it counts
		resend("long", Duplicate, 1)
		c.do(func(e *EntryBuilder) { e.AddHousekeep(100) })
		c.now += 30 * minute
		c.replicas[0].restart()
	}
	c.now += 20*minute - 1
	resend("long", Duplicate, 1)
	c.resultOf(1, "1")
	c.now++
	resend("long", OK, 4)
	c.compare()
}

// Who knows a packet by the number, or the id, that it had before it was redriven finds
// its result.
func TestResultOfARedrivenPacket(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	if res := c.publishOne("a", withID("x")); res.Code != OK {
		t.Fatalf("publish: %+v", res)
	}
	stands := func(want State, at Seq) {
		t.Helper()
		x, err := c.first().Standing(1, []byte("a"), 1)
		if err != nil || x.State != want || x.Seq != at {
			t.Fatalf("stands at %+v, %v, want %d at %d", x, err, want, at)
		}
	}
	stands(StateWaiting, 1)
	g := c.mustGrant(1, "a", 1)
	c.settle(Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Kind: SettleDead, Failed: 1, Error: []byte("no")})
	stands(StateDead, 1)
	c.do(func(e *EntryBuilder) { e.AddDead(DeadRedrive, &DeadFilter{Group: 1}, 10) })
	stands(StateWaiting, 2)
	seq := c.settleWith(&Left{ID: []byte("x"), ContentCRC: withID("x").ContentCRC, Data: []byte("ok")})
	stands(StateDone, 1)
	c.resultOf(1, "ok")
	c.resultOf(seq, "ok")
	if res := c.publishOne("a", withID("x")); res.Code != Duplicate || res.Seq != seq {
		t.Fatalf("resend: %+v", res)
	}
	if x, err := c.first().Standing(1, []byte("a"), 99); err != nil || x.State != StateUnknown {
		t.Fatalf("a number that was never given out: %+v, %v", x, err)
	}
	c.compare()
}

func TestLeftDecodesWhatItEncoded(t *testing.T) {
	for i, x := range []Left{
		{},
		{Data: []byte("plain")},
		{Packed: true, Kind: []byte("review"), Data: []byte{0, 1}},
		{ID: []byte("id"), ContentCRC: 7, Kind: []byte("k"), Data: []byte("d")},
	} {
		var got Left
		b := x.Append(nil)
		if err := got.Decode(b); err != nil || fmt.Sprint(got) != fmt.Sprint(x) {
			t.Errorf("%d: %+v became %+v: %v", i, x, got, err)
		}
		if err := got.Decode(append([]byte{leftMoved}, b[1:]...)); err == nil {
			t.Errorf("%d: unknown flags decode", i)
		}
	}
	if err := (&Left{}).Decode(nil); err == nil {
		t.Error("nothing decodes")
	}
}
