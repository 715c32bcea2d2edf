package transport

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

func smallOutbox() *outbox {
	c := DefaultConfig()
	c.QueuedMessages, c.QueuedBytes, c.ControlMessages, c.ControlBytes = 4, 1000, 3, 100
	return newOutbox(&c)
}

func itemOf(m *pb.Message, size int) item { return item{m: m, size: size} }

func TestControlGoesFirst(t *testing.T) {
	o := smallOutbox()
	app, vote := appendMessage(1, 2, 1, 10), message(pb.MsgVote, 1, 2, 1)
	for _, m := range []*pb.Message{app, heartbeat(1, 2), app, vote} {
		if !o.push(itemOf(m, 30)) {
			t.Fatal("no room")
		}
	}
	var types []pb.MessageType
	for more := true; more; {
		var items []item
		items, more = o.take(nil, 40) // two fit, as the first is under the limit
		for _, it := range items {
			types = append(types, it.m.GetType())
		}
		if len(items) != 2 {
			t.Fatalf("%d taken", len(items))
		}
	}
	if types[0] != pb.MsgHeartbeat || types[1] != pb.MsgVote || types[2] != pb.MsgApp || types[3] != pb.MsgApp {
		t.Fatal(types)
	}
}

func TestOutboxLimits(t *testing.T) {
	o := smallOutbox()
	app, vote := appendMessage(1, 2, 1, 10), message(pb.MsgVote, 1, 2, 1)
	push := func(m *pb.Message, size int, want bool) {
		t.Helper()
		if o.push(itemOf(m, size)) != want {
			t.Fatalf("%s of %d bytes: taken is %t", m.GetType(), size, !want)
		}
	}
	push(app, 5000, true) // one, whatever its size
	push(app, 1, false)
	push(vote, 60, true) // appends do not stand in its way
	push(vote, 60, false)
	push(vote, 30, true)
	push(vote, 1, true)
	push(vote, 1, false)
	if n, bytes := o.waiting(); n != 4 || bytes != 5091 {
		t.Fatalf("%d messages, %d bytes", n, bytes)
	}
	if dropped := o.setDown(true); len(dropped) != 1 {
		t.Fatalf("%d dropped", len(dropped))
	}
	push(app, 1, false) // the peer is down
	o.setDown(false)
	push(app, 1, true)
	if dropped := o.close(); len(dropped) != 4 {
		t.Fatalf("%d dropped", len(dropped))
	}
	push(app, 1, false)
	push(vote, 1, false)
}

// Whatever is pushed comes out once, in order, and the counts agree.
func TestFifo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fifo{maxLen: rapid.IntRange(1, 20).Draw(t, "len"), maxSize: 100}
		var model []int
		bytes, n := 0, 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "push") {
				n++
				size := rapid.IntRange(0, 60).Draw(t, "size")
				want := len(model) < f.maxLen && (len(model) == 0 || bytes+size <= 100)
				if f.push(item{group: 0, size: size, m: heartbeat(n, 0)}) != want {
					t.Fatalf("push of %d is %t", size, !want)
				}
				if want {
					model, bytes = append(model, n), bytes+size
				}
			} else if len(model) > 0 {
				it := f.pop()
				bytes -= it.size
				if int(it.m.GetFrom()) != model[0] {
					t.Fatalf("%d came, not %d", it.m.GetFrom(), model[0])
				}
				model = model[1:]
			}
			if f.len() != len(model) || f.bytes != bytes || len(f.items) > 2*f.maxLen+2 {
				t.Fatalf("%d of %d items, %d of %d bytes, %d slots", f.len(), len(model), f.bytes, bytes, len(f.items))
			}
		}
	})
}

// Heartbeats of all groups share a frame; one that somebody waits for goes at
// once, and takes the others along.
func TestHeartbeatsShareAFrame(t *testing.T) {
	w := newWorld(t)
	a := w.start(1, nil)
	b := w.start(2, nil)
	a.connected(2)
	const groups = 64
	for range groups {
		a.Send(1, []*pb.Message{heartbeat(1, 2)})
	}
	urgent := heartbeat(1, 2)
	urgent.Context = []byte("a reader waits")
	a.Send(1, []*pb.Message{urgent})
	b.await("all", func(got []received) bool { return len(got) == groups+1 })
	if f := a.metric("frames_sent_total"); f > 2 { // a ping may have come between
		t.Fatalf("%v frames", f)
	}
}

func TestHeartbeatsGoWithAFlush(t *testing.T) {
	w := newWorld(t)
	// No ping takes them along.
	a, b := w.start(1, func(c *Config) { c.Keepalive, c.Timeout = patience, 2*patience }), w.start(2, nil)
	a.connected(2)
	a.Send(1, []*pb.Message{heartbeat(1, 2), message(pb.MsgHeartbeatResp, 1, 2, 0)})
	a.Flush()
	b.await("both", func(got []received) bool { return len(got) == 2 })
}

func TestPace(t *testing.T) {
	p := pace{rate: 1000}
	start := time.Unix(1000, 0)
	if d := p.take(100, start); d != 0 { // the burst
		t.Fatal(d)
	}
	if d := p.take(500, start); d != 0 {
		t.Fatal(d)
	}
	if d := p.take(500, start); d != 500*time.Millisecond {
		t.Fatal(d)
	}
	if d := p.take(1, start.Add(time.Second)); d != 0 {
		t.Fatal(d)
	}
	if d := p.take(1, start.Add(time.Hour)); d != 0 { // idle time is not saved up
		t.Fatal(d)
	}
	if d := p.take(1, start.Add(time.Hour)); d > time.Millisecond {
		t.Fatal(d)
	}
	p.take(1<<20, start.Add(time.Hour))
	if d := p.take(1, start.Add(time.Hour)); d < 1000*time.Second {
		t.Fatal(d)
	}
	free := pace{}
	if d := free.take(1<<40, start); d != 0 {
		t.Fatal(d)
	}
}

func TestSeldom(t *testing.T) {
	var out strings.Builder
	s := seldom{logger: slog.New(slog.NewTextHandler(&out, nil))}
	for range 5 {
		s.about("a").Warn("first")
		s.about("b").Warn("second")
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Fatalf("%d lines", n)
	}
	skipped, ok := s.due("a", time.Now().Add(2*seldomEvery))
	if !ok || skipped != 4 {
		t.Fatalf("%t, %d skipped", ok, skipped)
	}
	for i := range 3 * maxSeldom {
		s.due(strings.Repeat("x", i), time.Now())
	}
	if len(s.last) > maxSeldom {
		t.Fatalf("%d subjects", len(s.last))
	}
}

func TestValidate(t *testing.T) {
	empty := Config{}
	err := empty.Validate()
	if err == nil {
		t.Fatal("an empty configuration is valid")
	}
	for _, what := range []string{"node id", "listener", "resolver", "receiver", "logger", "registerer", "queue", "frame", "timeout", "back-off", "snapshot"} {
		if !strings.Contains(err.Error(), what) {
			t.Errorf("nothing about %s", what)
		}
	}
}
