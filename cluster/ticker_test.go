package cluster

import "testing"

// Two groups that become led here at different ticks beat together from then on,
// and lose fewer ticks than part two heartbeats. A follower loses none.
func TestHeartbeatsComeTogether(t *testing.T) {
	const apart = 3
	tk := &ticker{engine: &Engine{cfg: Config{HeartbeatTicks: apart}}}
	var early, late, follower group
	counted := map[*group]int{}
	for n := 1; n <= 4*apart; n++ {
		tk.count.Add(1)
		switch n {
		case apart + 1:
			early.leads.Store(7)
		case apart + 2:
			late.leads.Store(9)
		}
		for _, g := range []*group{&early, &late, &follower} {
			counted[g] += tk.beats(g, 1)
		}
		if n <= apart && counted[&early] != n || n > 2*apart && counted[&early] != counted[&late]-1 {
			t.Errorf("tick %d: %d and %d counted", n, counted[&early], counted[&late])
		}
	}
	if n := counted[&late]; n != 4*apart-1 {
		t.Errorf("%d of %d ticks counted by the one that came a tick before the beat", n, 4*apart)
	}
	if n := counted[&follower]; n != 4*apart {
		t.Errorf("a follower counted %d of %d ticks", n, 4*apart)
	}
}
