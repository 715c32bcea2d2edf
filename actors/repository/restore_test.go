package repository

import "testing"

// moved is a replica that goes on at another index from a copy of r's records.
func (r *replica) moved(index uint64) *replica {
	next := newReplica(r.t, r.opt)
	for k, v := range r.state.all() {
		if v, keep := Moved([]byte(k), v, index); keep {
			next.state.set([]byte(k), v)
		}
	}
	next.restart()
	return next
}

// TestNumbersAfterARecovery: what a recovered partition numbers lies above all that
// was ever given out, in repositories that only lost replicas knew as well; what it
// knows keeps its numbers, and producers go on.
func TestNumbersAfterARecovery(t *testing.T) {
	r := newReplica(t, Options{})
	index := uint64(0)
	publish := func(repo string, p *PublishItem) PublishResult {
		t.Helper()
		index++
		return r.apply(index, entry(1_700_000_000_000, publishOf(repo, p))).Publish[0]
	}
	index++
	r.apply(index, entry(1_700_000_000_000, settings(nil, nil)))
	for i := range 3 {
		if got := publish("known", positioned("p", 1, uint64(i)+1)); got.Seq != Seq(i)+1 {
			t.Fatalf("packet %d has number %d", i, got.Seq)
		}
	}
	for round := Seq(1); round <= 2; round++ {
		// The lost ones gave out more: in this repository, and in one that nobody knows now.
		index += Jump
		r = r.moved(index)
		base := round * Jump
		if got := publish("known", positioned("p", 1, 3)); got.Code != Duplicate || got.Seq != 3 && got.Seq > base {
			t.Errorf("round %d: a resend: %+v", round, got)
		}
		if got := publish("known", packet("x")); got.Code != OK || got.Seq != base+1 {
			t.Errorf("round %d: the next packet of a known repository: %+v", round, got)
		}
		for i := range Seq(2) {
			if got := publish(string(rune('a'+round)), packet("x")); got.Code != OK || got.Seq != base+1+i {
				t.Errorf("round %d: packet %d of a new repository: %+v", round, i+1, got)
			}
		}
		if got := publish("known", positioned("q", 1, uint64(round))); got.Code != OK || got.Seq != base+2 {
			t.Errorf("round %d: a producer's next packet: %+v", round, got)
		}
	}
	// All of them are handed out, in the order of their numbers.
	want := []Seq{1, 2, 3, Jump + 1, Jump + 2, 2*Jump + 1, 2*Jump + 2}
	index++
	granted := r.apply(index, entry(1_700_000_000_000, grantOf(1, "known", 10))).Grants[0]
	if len(granted.Items) != len(want) {
		t.Fatalf("granted: %+v", granted)
	}
	for i, it := range granted.Items {
		if it.Seq != want[i] {
			t.Errorf("item %d has number %d, want %d", i, it.Seq, want[i])
		}
	}
	index++
	s := Settle{Group: 1, Repo: []byte("known"), Token: granted.Token, Through: want[len(want)-1]}
	if got := r.apply(index, entry(1_700_000_000_000, settleOf(s))).Settles[0]; got.Code != OK || !got.Ended {
		t.Errorf("settled: %+v", got)
	}
	if info, _, err := r.m.Repo([]byte("known")); err != nil || info.Head != want[len(want)-1] || info.Backlog != 0 {
		t.Errorf("in the end: %+v, %v", info, err)
	}
}
