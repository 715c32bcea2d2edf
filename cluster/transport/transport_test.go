package transport

import (
	"math"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/logclock"
	"github.com/waystation/waystation/storage"
)

var _ cluster.Transport = (*Transport)(nil)

func TestMessagesArriveInOrder(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.start(1, nil), w.start(2, nil), w.start(3, nil)
	const groups, each = 5, 200
	sent := map[storage.GroupID][]*pb.Message{}
	for i := range uint64(each) {
		for g := range storage.GroupID(groups) {
			m := appendMessage(1, 2, i, int(i)*41)
			sent[g] = append(sent[g], m)
			a.Send(g, []*pb.Message{m, appendMessage(1, 3, i, 10)})
		}
	}
	all := func(got []received) bool { return len(got) == groups*each }
	next := map[storage.GroupID]int{}
	for _, r := range b.await("all messages", all) {
		if want := sent[r.group][next[r.group]]; !proto.Equal(r.m, want) {
			t.Fatalf("group %d: %d-th message has index %d, want %d", r.group, next[r.group], r.m.GetIndex(), want.GetIndex())
		}
		next[r.group]++
	}
	c.await("all messages", all)
	if d := a.metric("messages_dropped_total"); d != 0 {
		t.Fatalf("%v messages dropped", d)
	}
}

func TestLargeEntries(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(1, nil), w.start(2, nil)
	var sent []*pb.Message
	for i, size := range []int{0, 1, 511, 1 << 10, vecBytes - 1, vecBytes, 16 << 10, 64 << 10, 512 << 10, 2 << 20} {
		m := appendMessage(1, 2, uint64(i), size)
		m.Entries = append(m.Entries, appendMessage(1, 2, uint64(i)+1, size/3).Entries...)
		sent = append(sent, m)
		a.Send(4, []*pb.Message{m})
	}
	for i, r := range b.await("all messages", func(got []received) bool { return len(got) == len(sent) }) {
		if !proto.Equal(r.m, sent[i]) {
			t.Fatalf("message %d differs", i)
		}
	}
}

func TestHeadroomOfPeers(t *testing.T) {
	w := newWorld(t)
	var left atomic.Int64
	left.Store(-5)
	a := w.start(1, func(c *Config) { c.Headroom = left.Load })
	b := w.start(2, nil)
	if _, ok := b.Headroom(nodeID(1)); ok {
		t.Fatal("headroom of a node that was never heard of")
	}
	a.connected(2)
	says := func(n *testNode, of int, want int64) func() bool {
		return func() bool {
			bytes, ok := n.Headroom(nodeID(of))
			return ok && bytes == want
		}
	}
	until(t, "what a has", says(b, 1, -5))
	until(t, "what b has", says(a, 2, math.MaxInt64))
	left.Store(77)
	until(t, "what a has now", says(b, 1, 77))
	if h := b.status(1).Headroom; h != 77 {
		t.Fatal(h)
	}
}

func TestClocksOfPeers(t *testing.T) {
	w := newWorld(t)
	a := w.start(1, nil)
	w.start(2, func(c *Config) { c.Wall = func() int64 { return time.Now().Add(2 * time.Hour).UnixNano() } })
	a.connected(2)
	until(t, "a measurement", func() bool { return a.status(2).Measured })
	s := a.status(2)
	if off := (s.Offset - 2*time.Hour).Abs(); off > time.Minute || s.RTT <= 0 {
		t.Fatalf("offset %s, round trip %s", s.Offset, s.RTT)
	}
	wall, ok := a.Clock(nodeID(2))
	if d := time.Until(time.Unix(0, wall)) - 2*time.Hour; !ok || d.Abs() > time.Minute {
		t.Fatalf("clock off by %s", d)
	}
	if _, ok := a.Clock(nodeID(3)); ok {
		t.Fatal("clock of a node that was never heard of")
	}
}

// A node whose clock is two hours off learns it from the others, and changes
// nobody's log time, its own included.
func TestClockTwoHoursOff(t *testing.T) {
	w := newWorld(t)
	voters := []identity.NodeID{nodeID(1), nodeID(2), nodeID(3)}
	clocks := map[int]*logclock.Clock{}
	for i := 1; i <= 3; i++ {
		now := time.Now
		if i == 3 {
			now = func() time.Time { return time.Now().Add(2 * time.Hour) }
		}
		n := w.start(i, func(c *Config) { c.Wall = func() int64 { return now().UnixNano() } })
		clocks[i] = logclock.New(0, now)
		clocks[i].Follow(func() logclock.Voters { return n.votersOf(voters) })
	}
	for i, n := range w.nodes {
		for to := 1; to <= 3; to++ {
			n.Connect(nodeID(to))
		}
		until(t, "all clocks", func() bool { return len(n.votersOf(voters).Others) == 2 })
		until(t, "who is off", func() bool { return clocks[i].Off() == (i == 3) })
		if d := time.Until(time.UnixMilli(clocks[i].NowMs())).Abs(); d > time.Minute {
			t.Fatalf("log time of node %d is off by %s", i, d)
		}
	}
	if s := clocks[3].Skew() - 2*time.Hour; s.Abs() > time.Minute {
		t.Fatalf("skew is off by %s", s)
	}
}

func (n *testNode) votersOf(nodes []identity.NodeID) logclock.Voters {
	v := logclock.Voters{Count: len(nodes)}
	for _, id := range nodes {
		if wall, ok := n.Clock(id); ok {
			v.Others = append(v.Others, wall)
		}
	}
	return v
}
