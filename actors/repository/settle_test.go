package repository

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// The same settlement twice is fine; one that says something else than what the
// lease ended with is not.
func TestSettlementTwice(t *testing.T) {
	lease := func(t *testing.T) (*cluster, Token) {
		c := newCluster(t)
		c.do(settings(nil, nil))
		c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
		c.publish("a", 4)
		return c, c.mustGrant(1, "a", 3).Token
	}
	say := func(c *cluster, token Token, through Seq, kind SettleKind, failed Seq) Code {
		return c.settle(Settle{Group: 1, Repo: []byte("a"), Token: token, Through: through, Kind: kind, Failed: failed}).Code
	}
	type word struct {
		through Seq
		kind    SettleKind
		failed  Seq
		want    Code
	}
	for name, list := range map[string][]word{
		"done":    {{3, SettleDone, 0, OK}, {3, SettleDone, 0, OK}, {1, SettleDone, 0, OK}, {4, SettleDone, 0, Stale}, {0, SettleRetry, 2, Stale}, {0, SettleDead, 1, Stale}, {0, SettleRelease, 0, OK}},
		"retry":   {{1, SettleRetry, 2, OK}, {1, SettleRetry, 2, OK}, {0, SettleRetry, 2, OK}, {1, SettleDone, 0, OK}, {1, SettleDead, 2, Stale}, {2, SettleDone, 0, Stale}, {0, SettleRetry, 1, Stale}, {1, SettleRetry, 3, Stale}},
		"dead":    {{1, SettleDead, 2, OK}, {1, SettleDead, 2, OK}, {1, SettleRetry, 2, Stale}, {2, SettleDone, 0, Stale}},
		"release": {{1, SettleRelease, 0, OK}, {1, SettleRelease, 0, OK}, {2, SettleDone, 0, Stale}, {1, SettleRetry, 2, Stale}},
		"expire":  {{0, SettleExpire, 0, OK}, {0, SettleExpire, 0, OK}, {1, SettleDone, 0, Stale}, {0, SettleRetry, 1, Stale}},
		"part":    {{1, SettleDone, 0, OK}, {1, SettleDone, 0, OK}, {0, SettleRetry, 1, BadSettlement}, {4, SettleDone, 0, BadSettlement}, {1, SettleRetry, 3, BadSettlement}, {2, SettleRetry, 3, OK}},
	} {
		t.Run(name, func(t *testing.T) {
			c, token := lease(t)
			for i, w := range list {
				if got := say(c, token, w.through, w.kind, w.failed); got != w.want {
					t.Errorf("word %d %+v: code %d", i, w, got)
				}
			}
			if got := say(c, token+1, 0, SettleDone, 0); got != Stale {
				t.Errorf("another token: code %d", got)
			}
			c.compare()
		})
	}
}

// A long error text is cut, and never in the midst of a character: what is not UTF-8
// could not be sent to anybody again.
func TestErrorTextIsCut(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.publish("a", 1)
	token := c.mustGrant(1, "a", 1).Token
	text := "x" + strings.Repeat("é", 1000)
	c.settle(Settle{Group: 1, Repo: []byte("a"), Token: token, Kind: SettleDead, Failed: 1, Error: []byte(text)})
	d, ok, err := c.first().Dead(1, []byte("a"), 1)
	if err != nil || !ok || !utf8.ValidString(d.Error()) || len(d.Error()) > maxErrorKept || len(d.Error()) < maxErrorKept-4 || !strings.HasPrefix(text, d.Error()) {
		t.Fatalf("kept %d bytes, valid %v: %v, %v", len(d.Error()), utf8.ValidString(d.Error()), ok, err)
	}
}

// Entries are applied one after the other: one that is missing stops the replica.
func TestGapInTheLogStops(t *testing.T) {
	r := newReplica(t, Options{})
	r.apply(6, nil) // the first one may be any: the log begins behind its creation
	if err := r.m.Apply(8, 1, nil, &r.eff); err == nil {
		t.Fatal("entry 7 was skipped")
	}
}

// A settlement whose answer was lost is fine when it comes again, although the lane
// was leased anew since, and more than once; after the last few leases it is stale.
func TestSettlementTwiceAfterOtherLeases(t *testing.T) {
	c := newCluster(t)
	c.do(settings(nil, nil))
	c.do(func(e *EntryBuilder) { e.AddBackfill(1, 1) })
	c.publish("a", 10)
	var over []Settle // oldest first
	lease := func(kind SettleKind) {
		g := c.mustGrant(1, "a", 1)
		s := Settle{Group: 1, Repo: []byte("a"), Token: g.Token, Kind: kind}
		if kind.fails() {
			s.Failed = g.Items[0].Seq
		} else {
			s.Through = g.Items[0].Seq
		}
		if out := c.settle(s); out.Code != OK || !out.Ended {
			t.Fatalf("settle %+v: %+v", s, out)
		}
		over = append(over, s)
	}
	for _, kind := range []SettleKind{SettleDone, SettleRetry, SettleDead, SettleDone, SettleDone, SettleRetry} {
		c.now += hour // past any back-off
		lease(kind)
		for _, rep := range c.replicas {
			rep.restart()
		}
		for i, s := range over {
			want := OK
			if len(over)-i > endedKept {
				want = Stale
			}
			if got := c.settle(s).Code; got != want {
				t.Errorf("lease %d of %d again: code %d, want %d", i+1, len(over), got, want)
			}
			s.Through = 11
			if got := c.settle(s).Code; got != Stale {
				t.Errorf("more than lease %d of %d ended with: code %d", i+1, len(over), got)
			}
		}
	}
	c.compare()
}
