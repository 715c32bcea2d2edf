package sim

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// sent is a packet as its producer knows it. Resends share it.
type sent struct {
	serial   uint64
	repo     string
	group    storage.GroupID
	content  []byte
	crc      uint32
	rank     repository.Rank
	id       []byte
	producer string
	epoch    uint64
	position uint64 // 0: none
	acked    repository.Seq
}

func (p *sent) String() string {
	return fmt.Sprintf("packet %d (%s of %s.%d/%d id %q)", p.serial, p.repo, p.producer, p.epoch, p.position, p.id)
}

// failure is an answer that is not Apply's.
type failure uint8

const (
	decided failure = iota
	notLeader
	unknown
	busy
)

type reply struct {
	p       *sent
	result  repository.PublishResult
	failure failure
}

// stream is one connection of a producer. Once broken, what is under way may
// still arrive, and is not answered.
type stream struct {
	p    *producer
	node int
	out  [][]*sent
	in   []reply
	dead bool
}

func (s *stream) answer(r reply) {
	if !s.dead {
		s.in = append(s.in, r)
	}
}

// producer sends to the repositories of one group.
type producer struct {
	w       *world
	name    string
	group   storage.GroupID
	epoch   uint64
	ids     bool // packets carry an id
	places  bool // packets carry a position
	lanes   []*outLane
	stream  *stream
	zombies []*stream
	quiet   bool // nothing new is sent any more
}

// outLane is what a producer has under way for one repository.
type outLane struct {
	repo    string
	next    uint64
	unacked []*sent
	resend  bool
	last    reply
	orphans []*sent // of a former epoch, with an id
}

func newProducer(w *world, i int) *producer {
	r := rand.New(rand.NewPCG(w.set.Seed, uint64(100+i)))
	p := &producer{w: w, name: fmt.Sprintf("p%d", i), group: storage.GroupID(1 + i%w.set.Groups), epoch: 1}
	switch r.IntN(6) {
	case 0:
		p.ids = true
	case 1, 2:
		p.ids, p.places = true, true
	default:
		p.places = true
	}
	p.stream = &stream{p: p, node: 1}
	p.reset()
	return p
}

func (p *producer) reset() {
	old := p.lanes
	p.lanes = nil
	for i, repo := range p.w.repos(int(p.group)) {
		l := &outLane{repo: repo, next: 1}
		if old != nil && p.ids {
			l.orphans = append(old[i].orphans, old[i].unacked...)
		}
		p.lanes = append(p.lanes, l)
	}
}

func (w *world) clientStep(o op) bool {
	if o.a < 0 || o.a >= len(w.producers) {
		return false
	}
	p := w.producers[o.a]
	switch o.kind {
	case opSend:
		return p.send(newRand(o.n))
	case opRequest:
		return p.request(o.b)
	case opReply:
		return p.reply()
	case opBreak:
		p.reconnect(o.b)
		return true
	case opRestart:
		if !p.places {
			return false
		}
		p.epoch++
		p.reset()
		p.reconnect(o.b)
		return true
	}
	return false
}

func (p *producer) reconnect(node int) {
	p.stream.dead, p.stream.in = true, nil
	if len(p.stream.out) > 0 {
		p.zombies = append(p.zombies, p.stream)
	}
	if len(p.zombies) > 3 {
		p.zombies = append([]*stream(nil), p.zombies[1:]...)
	}
	p.stream = &stream{p: p, node: node}
	for _, l := range p.lanes {
		l.resend = true
	}
}

// send puts a frame of one repository on the stream: a resend of all that is not
// acknowledged, or something new.
func (p *producer) send(r *rand.Rand) bool {
	l := p.lanes[r.IntN(len(p.lanes))]
	if len(p.stream.out) > 8 {
		return false
	}
	if len(l.unacked) > 0 && (l.resend || r.IntN(10) == 0) {
		l.resend = false
		n := len(l.unacked)
		if r.IntN(4) == 0 {
			n = 1 + r.IntN(n)
			l.resend = true
		}
		p.stream.out = append(p.stream.out, append([]*sent(nil), l.unacked[:n]...))
		return true
	}
	l.resend = l.resend && len(l.unacked) > 0
	room := p.w.set.Window - len(l.unacked)
	if l.resend || room <= 0 || p.quiet && len(l.orphans) == 0 {
		return false
	}
	var frame []*sent
	for n := 1 + r.IntN(min(room, 4)); n > 0; n-- {
		if len(l.orphans) > 0 && (p.quiet || r.IntN(2) == 0) {
			frame = append(frame, p.again(l, l.orphans[0]))
			l.orphans = l.orphans[1:]
			continue
		}
		if p.quiet {
			break
		}
		frame = append(frame, p.fresh(l, r))
	}
	l.unacked = append(l.unacked, frame...)
	p.stream.out = append(p.stream.out, frame)
	return true
}

func (p *producer) fresh(l *outLane, r *rand.Rand) *sent {
	p.w.serial++
	s := &sent{serial: p.w.serial, repo: l.repo, group: p.group, producer: p.name, epoch: p.epoch, rank: repository.RankNormal}
	if r.IntN(4) == 0 {
		s.rank = repository.Rank(r.IntN(repository.Ranks))
	}
	s.content = []byte(fmt.Sprintf("packet %d of %s %s", s.serial, p.name, strings.Repeat("x", r.IntN(100))))
	s.crc = crc32.Checksum(s.content, castagnoli)
	if p.ids {
		s.id = []byte(fmt.Sprintf("id-%d", s.serial))
	}
	p.place(l, s)
	return s
}

// again is a packet of a former epoch under its id: a new position, the same content.
func (p *producer) again(l *outLane, o *sent) *sent {
	s := *o
	s.epoch = p.epoch
	p.place(l, &s)
	return &s
}

func (p *producer) place(l *outLane, s *sent) {
	if p.places {
		s.position = l.next
		l.next++
	}
}

// request lets the oldest frame of a stream arrive at its node: 0 is the current
// one, others are broken ones.
func (p *producer) request(which int) bool {
	s := p.stream
	if which > 0 {
		if which > len(p.zombies) {
			return false
		}
		s = p.zombies[which-1]
	}
	if len(s.out) == 0 {
		return false
	}
	frame := s.out[0]
	s.out = s.out[1:]
	n := p.w.node(s.node)
	switch {
	case n == nil || n.life == nil:
		if s == p.stream {
			p.reconnect(1 + s.node%p.w.set.Nodes)
		} else {
			s.out = nil
		}
	case n.life.group(p.group) == nil || n.life.group(p.group).leader == nil:
		for _, x := range frame {
			s.answer(reply{p: x, failure: notLeader})
		}
	default:
		n.life.group(p.group).leader.offer(s, frame)
	}
	return true
}

func (p *producer) lane(repo string) *outLane {
	for _, l := range p.lanes {
		if l.repo == repo {
			return l
		}
	}
	return nil
}

// reply takes the oldest answer.
func (p *producer) reply() bool {
	if len(p.stream.in) == 0 {
		return false
	}
	r := p.stream.in[0]
	p.stream.in = p.stream.in[1:]
	l := p.lane(r.p.repo)
	l.last = r
	p.w.note("%s got %d %d for %d", p.name, r.failure, r.result.Code, r.p.serial)
	if r.p.epoch != p.epoch && p.places {
		return true
	}
	if r.failure != decided {
		l.resend = true
		return true
	}
	switch r.result.Code {
	case repository.OK, repository.Duplicate:
		p.w.oracle.acked(r.p, &r.result)
		l.ack(r.p)
	case repository.Gap:
		if first := l.first(); r.result.Expected < first {
			p.w.violate("%s: gap, expected %d, but all below %d is acknowledged", r.p, r.result.Expected, first)
		}
		l.resend = true
	case repository.UnknownProducer:
		if first := l.first(); first > 1 {
			p.w.violate("%s: unknown producer, but all below %d is acknowledged", r.p, first)
		}
		l.resend = true
	case repository.TooOld:
		if r.p.acked == 0 {
			p.w.violate("%s: too old, and never acknowledged", r.p)
		}
	case repository.BacklogFull:
		l.resend = true
	default:
		p.w.violate("%s: refused with code %d", r.p, r.result.Code)
	}
	return true
}

// first is the lowest position that is not acknowledged.
func (l *outLane) first() uint64 {
	if len(l.unacked) > 0 {
		return l.unacked[0].position
	}
	return l.next
}

func (l *outLane) ack(p *sent) {
	for i, x := range l.unacked {
		if x == p {
			l.unacked = append(append([]*sent(nil), l.unacked[:i]...), l.unacked[i+1:]...)
			return
		}
	}
}

// busy says whether the producer still waits for something.
func (p *producer) busy() bool {
	for _, l := range p.lanes {
		if len(l.unacked)+len(l.orphans) > 0 {
			return true
		}
	}
	return false
}

// waits says what for.
func (p *producer) waits() string {
	for _, l := range p.lanes {
		if len(l.unacked)+len(l.orphans) > 0 {
			text := fmt.Sprintf("%s at node %d has %d frames out, %d replies in; %d orphans of %s", p.name, p.stream.node, len(p.stream.out), len(p.stream.in), len(l.orphans), l.repo)
			if len(l.unacked) > 0 {
				text += fmt.Sprintf("; waits for %d receipts from %s on, last answer %v", len(l.unacked), l.unacked[0], l.last)
			}
			return text
		}
	}
	return ""
}
