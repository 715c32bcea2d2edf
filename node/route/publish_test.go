package route

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

func TestPublishThroughAnyNode(t *testing.T) {
	c := newTrio(t, nil)
	for round, n := range c.nodes {
		var list []wire.PacketFields
		for p := range testPartitions {
			for i := range 3 {
				list = append(list, wire.PacketFields{RepoID: c.repoIn(p, 0), PacketID: fmt.Sprintf("%d-%d-%d", round, p, i), Content: []byte("x")})
			}
		}
		list = append(list, wire.PacketFields{RepoID: "", Content: []byte("nobody's")})
		got := n.publish(t, list...)
		for i := range testPartitions * 3 {
			want := repository.Seq(round*3 + i%3 + 1)
			if a := got[i]; a.refusal != nil || a.seq != want || a.repo != list[i].RepoID || a.id != list[i].PacketID || a.duplicate {
				t.Errorf("node %d, %s: %+v (%v), want number %d", round, list[i].PacketID, a, a.refusal, want)
			}
		}
		if a := got[len(list)-1]; a.code() != actors.CodeInvalidArgument || a.refusal.Field != "repo_id" {
			t.Errorf("a packet without a repository: %+v", a)
		}
		// The same again, through another node, is known.
		for i, a := range c.nodes[(round+1)%3].publish(t, list[:testPartitions*3]...) {
			if !a.duplicate || a.seq != got[i].seq {
				t.Errorf("sent again: %+v, want a duplicate of %d", a, got[i].seq)
			}
		}
	}
}

// producer sends positions of one repository over one stream, as a client does: it
// goes back to the first one that was refused, in order.
type producer struct {
	t      *testing.T
	n      *node
	repo   string
	name   string
	sink   *sink
	index  uint64
	placed map[uint64]uint64 // index -> sequence
}

// send sends the numbers from..to in frames of 8 and returns the first that has no receipt.
func (p *producer) send(from, to uint64) (next uint64) {
	begin := p.index
	for at := from; at <= to; {
		var list []wire.PacketFields
		for range 8 {
			if at <= to {
				list = append(list, wire.PacketFields{RepoID: p.repo, Producer: p.name, Epoch: 1, Sequence: at, Content: fmt.Append(nil, at)})
				p.placed[p.index+uint64(len(list))-1] = at
				at++
			}
		}
		p.n.offer(p.sink, p.index, list...)
		p.index += uint64(len(list))
	}
	next = to + 1
	for i := begin; i < p.index; i++ {
		a := p.sink.await(i)
		at := p.placed[i]
		switch {
		case a.refusal == nil && uint64(a.seq) != at:
			p.t.Errorf("position %d of %s has number %d", at, p.repo, a.seq)
		case a.refusal == nil:
		case !a.refusal.Retriable() && a.refusal.Code != actors.CodeGap && (a.refusal.Code != actors.CodeUnknownProducer || from > 1): // with nothing accepted yet it is a gap, too
			p.t.Fatalf("position %d of %s: %v", at, p.repo, a.refusal)
		default:
			next = min(next, at)
		}
	}
	return next
}

func TestOrderAndOnceAcrossLeaderSwitches(t *testing.T) {
	c := newTrio(t, nil)
	stop := make(chan struct{})
	var switching sync.WaitGroup
	switching.Add(1)
	go func() { // each partition is led by one after the other
		defer switching.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(15 * time.Millisecond):
				c.w.lead(repository.PartitionID(i%testPartitions), (i/testPartitions+i)%3)
			}
		}
	}()
	const packets = 1500
	var senders sync.WaitGroup
	for p := range testPartitions {
		senders.Add(1)
		go func() {
			defer senders.Done()
			x := &producer{t: t, n: c.nodes[p%3], repo: c.repoIn(p, 1), name: "p", sink: newSink(t), placed: map[uint64]uint64{}}
			for next := uint64(1); next <= packets && !t.Failed(); {
				next = x.send(next, min(next+99, packets))
			}
		}()
	}
	senders.Wait()
	close(stop)
	switching.Wait()
	c.settled()
	for p := range testPartitions {
		info, err := c.nodes[(p+1)%3].router.Delivery().Repository(t.Context(), c.repoIn(p, 1))
		if err != nil || info.Head != packets {
			t.Errorf("repository of partition %d: %+v, %v", p, info, err)
		}
	}
}

func TestNoLeaderRefusesAtOnce(t *testing.T) {
	c := newTrio(t, nil)
	c.w.lead(1, -1)
	await(t, "the router to know", func() bool { return !c.nodes[0].router.table.Load().targets[1].ok })
	got := c.nodes[0].publish(t,
		wire.PacketFields{RepoID: c.repoIn(0, 0), Content: []byte("here")},
		wire.PacketFields{RepoID: c.repoIn(1, 0), Content: []byte("nowhere")},
		wire.PacketFields{RepoID: c.repoIn(2, 0), Content: []byte("there")},
	)
	if got[0].code() != "OK" || got[2].code() != "OK" {
		t.Errorf("other partitions: %v, %v", got[0].refusal, got[2].refusal)
	}
	if got[1].code() != actors.CodeUnavailable || !got[1].refusal.Retriable() {
		t.Errorf("without a leader: %+v", got[1].refusal)
	}
}

// A guess that is wrong comes back as a refusal: it never goes on to a third node,
// and never back.
func TestForwardingIsOneHop(t *testing.T) {
	c := newTrio(t, nil)
	wrong := *c.nodes[0].router.table.Load()
	wrong.targets = append([]target(nil), wrong.targets...)
	wrong.targets[2] = wrong.targets[1] // b does not lead partition 2
	s := newSink(t)
	var p wire.Packet
	if err := p.Parse(wire.AppendPacket(nil, &wire.PacketFields{RepoID: c.repoIn(2, 0), Content: []byte("x")})); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].router.split(&wrong, &actors.Frame{Packets: []wire.Packet{p}}, s)
	if a := s.await(0); a.code() != actors.CodeUnavailable || !a.refusal.Retriable() || a.refusal.Leader != "public-c:1" {
		t.Errorf("got %+v, %+v, want a refusal that names c", a, a.refusal)
	}
	await(t, "b to be suspected", func() bool {
		c.nodes[0].seen.mu.Lock()
		defer c.nodes[0].seen.mu.Unlock()
		return c.nodes[0].seen.suspects > 0
	})
	if _, err := c.nodes[0].router.Delivery().Repository(t.Context(), c.repoIn(2, 0)); err == nil {
		t.Error("the packet was stored")
	}
}

func TestBrokenStreamIsUnknownAndSafeToResend(t *testing.T) {
	c := newTrio(t, nil)
	repo := c.repoIn(1, 0)
	c.w.hold(1, true)
	s := newSink(t)
	for i := range uint64(20) {
		c.nodes[0].offer(s, i, wire.PacketFields{RepoID: repo, Producer: "p", Epoch: 1, Sequence: i + 1, Content: []byte("x")})
	}
	l := c.nodes[0].router.table.Load().targets[1].link
	await(t, "packets to be sent", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.sent == 20
	})
	c.nodes[1].server.Stop()
	for i := range uint64(20) {
		if a := s.await(i); a.code() != actors.CodeUnknown || !a.refusal.Retriable() {
			t.Fatalf("packet %d: %+v", i, a.refusal)
		}
	}
	if n := l.load(1); n != 0 {
		t.Errorf("%d packets are still on the link", n)
	}
	c.crash(1)
	c.w.hold(1, false)
	c.w.lead(1, 2)
	c.w.lead(4, 2)
	c.settled()
	x := &producer{t: t, n: c.nodes[0], repo: repo, name: "p", sink: newSink(t), placed: map[uint64]uint64{}}
	for next := uint64(1); next <= 30 && !t.Failed(); {
		next = x.send(next, 30)
	}
}

// What a former leader does not answer is of unknown outcome after a while, and
// nothing goes to the next one before.
func TestFormerLeaderThatHangs(t *testing.T) {
	c := newTrio(t, func(s *settings) { s.route.Patience = time.Second })
	repo := c.repoIn(1, 0)
	r := c.nodes[0].router
	s := newSink(t)
	// A packet that b never answers: it is on the link, and not on the stream.
	var p wire.Packet
	if err := p.Parse(wire.AppendPacket(nil, &wire.PacketFields{RepoID: repo, Content: []byte("x")})); err != nil {
		t.Fatal(err)
	}
	l := r.table.Load().targets[1].link
	l.mu.Lock()
	l.slots.add(slot{sink: s, index: 7, bytes: 1, partition: 1})
	l.flying[1] = load{1, 1}
	l.sent = l.slots.next
	l.mu.Unlock()
	c.w.lead(1, 2)
	c.settled()
	if s.count() == 0 {
		if a := c.nodes[0].publish(t, wire.PacketFields{RepoID: repo, Content: []byte("y")})[0]; a.code() != actors.CodeUnavailable && s.count() == 0 {
			t.Errorf("a packet overtook one in flight: %+v", a)
		}
	}
	if a := s.await(7); a.code() != actors.CodeUnknown {
		t.Errorf("got %+v", a)
	}
	await(t, "the next leader to take packets", func() bool {
		return c.nodes[0].publish(t, wire.PacketFields{RepoID: repo, Content: []byte("y")})[0].code() == "OK"
	})
}

func TestCreditIsBounded(t *testing.T) {
	c := newTrio(t, func(s *settings) { s.route.CreditPackets = 10 })
	repo := c.repoIn(1, 0)
	c.w.hold(1, true)
	s := newSink(t)
	for i := range uint64(25) {
		c.nodes[0].offer(s, i, wire.PacketFields{RepoID: repo, PacketID: fmt.Sprint(i), Content: []byte("x")})
	}
	for i := range uint64(15) {
		if a := s.await(10 + i); a.code() != actors.CodeResourceExhausted || !a.refusal.Retriable() {
			t.Errorf("packet %d: %+v", 10+i, a.refusal)
		}
	}
	// Another partition of the same node is not held up.
	if a := c.nodes[0].publish(t, wire.PacketFields{RepoID: c.repoIn(4, 0), Content: []byte("x")})[0]; a.code() != "OK" {
		t.Errorf("another partition: %v", a.refusal)
	}
	c.w.hold(1, false)
	for i := range uint64(10) {
		if a := s.await(i); a.code() != "OK" {
			t.Errorf("packet %d: %v", i, a.refusal)
		}
	}
	if n := c.nodes[0].router.unanswered(); n != 0 {
		t.Errorf("%d packets are left", n)
	}
}

// mute takes frames and answers nothing.
type mute struct{ frames int }

func (m *mute) Offer(*actors.Frame, actors.Sink) { m.frames++ }
func (m *mute) Parked(string) bool               { return false }

func TestFramesPassAsTheyAreWhereAllIsLedHere(t *testing.T) {
	m := &mute{}
	r := &Router{cfg: DefaultConfig(), relay: m}
	r.table.Store(&table{here: true, targets: make([]target, r.cfg.Partitions)})
	relay := r.Relay()
	f := &actors.Frame{Packets: make([]wire.Packet, 64)}
	if n := testing.AllocsPerRun(100, func() { relay.Offer(f, nil) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	// With other nodes about, a frame that is all this node's is not changed either.
	here := &table{targets: make([]target, r.cfg.Partitions)}
	for i := range here.targets {
		here.targets[i] = target{local: true, ok: true}
	}
	for i := range f.Packets {
		f.Packets[i].Repo = fmt.Appendf(nil, "repo-%d", i)
	}
	if n := testing.AllocsPerRun(100, func() { r.split(here, f, nil) }); n != 0 {
		t.Errorf("%v allocations to split a frame", n)
	}
	if m.frames < 200 || len(f.Packets) != 64 || f.Indexes != nil {
		t.Errorf("%d frames, %d packets", m.frames, len(f.Packets))
	}
}

func BenchmarkSplit(b *testing.B) {
	r := &Router{cfg: DefaultConfig(), relay: &mute{}}
	f := &actors.Frame{Packets: make([]wire.Packet, 64)}
	for i := range f.Packets {
		f.Packets[i].Repo = fmt.Appendf(nil, "repo-%d", i)
	}
	here := &table{targets: make([]target, r.cfg.Partitions)}
	for i := range here.targets {
		here.targets[i] = target{local: true, ok: true}
	}
	b.Run("alone", func(b *testing.B) {
		r.table.Store(&table{here: true, targets: here.targets})
		relay := r.Relay()
		b.ReportAllocs()
		for b.Loop() {
			relay.Offer(f, nil)
		}
	})
	b.Run("in a cluster", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.split(here, f, nil)
		}
	})
}

// A node that takes packets and never says anything is given up after a while.
func TestSilentNodeIsGivenUp(t *testing.T) {
	c := newTrio(t, func(s *settings) { s.route.AnswerTimeout = 50 * time.Millisecond })
	c.w.hold(1, true)
	s := newSink(t)
	c.nodes[0].offer(s, 0, wire.PacketFields{RepoID: c.repoIn(1, 0), PacketID: "x", Content: []byte("x")})
	if a := s.await(0); a.code() != actors.CodeUnknown || !a.refusal.Retriable() {
		t.Errorf("got %+v", a)
	}
	c.w.hold(1, false)
	await(t, "the same packet to be taken", func() bool {
		a := c.nodes[0].publish(t, wire.PacketFields{RepoID: c.repoIn(1, 0), PacketID: "x", Content: []byte("x")})[0]
		return a.code() == "OK" && a.seq == 1
	})
}
