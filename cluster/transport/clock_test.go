package transport

import (
	"testing"
	"time"
)

func TestPeerClock(t *testing.T) {
	const ms = time.Millisecond
	var c peerClock
	if _, _, ok := c.read(0, time.Hour); ok {
		t.Fatal("a clock without a measurement")
	}
	base := int64(1_700_000_000_000_000_000)
	// The peer's clock shows base when ours begins. Half of the way each way.
	at := func(sent, rtt, error time.Duration) {
		c.add(sent, sent+rtt, base+int64(sent+rtt/2+error))
	}
	check := func(now time.Duration, want, tolerance time.Duration, rtt time.Duration) {
		t.Helper()
		wall, got, ok := c.read(now, time.Hour)
		if off := (time.Duration(wall-base) - now - want).Abs(); !ok || off > tolerance || got != rtt {
			t.Fatalf("off by %s, round trip %s", off, got)
		}
	}
	at(10*ms, 2*ms, 0)
	check(20*ms, 0, 0, 2*ms)
	at(20*ms, 40*ms, 15*ms) // a slow way there
	check(70*ms, 0, 0, 2*ms)
	at(80*ms, 1*ms, 0)
	check(90*ms, 0, 0, 1*ms)
	at(100*ms, 4*ms, time.Hour) // its clock was set
	check(110*ms, time.Hour, 0, 4*ms)
	for i := range 2 * samples { // the best is not kept for ever
		at(time.Duration(200+i*10)*ms, 6*ms, time.Hour)
	}
	check(time.Second, time.Hour, 0, 6*ms)
	c.add(time.Second, time.Second-1, 0) // an answer from the future
	c.add(-1, time.Second, 0)
	check(time.Second, time.Hour, 0, 6*ms)
	if _, _, ok := c.read(2*time.Second, time.Second); ok {
		t.Fatal("an old measurement still counts")
	}
}

func FuzzClock(f *testing.F) {
	f.Add(appendPulse(nil, framePing, pulse{1, 2, 3})[headerSize:], int64(5))
	f.Fuzz(func(_ *testing.T, b []byte, now int64) {
		p, err := parsePulse(b)
		if err != nil {
			return
		}
		var c peerClock
		c.add(p.mono, time.Duration(now), p.wall)
		c.add(p.mono, time.Duration(now), -p.wall)
		c.read(time.Duration(now), time.Second)
	})
}
