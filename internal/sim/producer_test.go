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
	ttl      uint64 // ms; 0: none
	delay    uint64 // ms
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

// producer sends to the repositories of one group.
type producer struct {
	*client
	epoch  uint64
	ids    bool // packets carry an id
	places bool // packets carry a position
	lanes  []*outLane
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
	p := &producer{epoch: 1, client: &client{
		w: w, name: fmt.Sprintf("p%d", i), group: storage.GroupID(1 + i%w.set.Groups), stream: &stream{node: 1},
	}}
	p.broken = func() {
		for _, l := range p.lanes {
			l.resend = true
		}
	}
	switch r.IntN(6) {
	case 0:
		p.ids = true
	case 1, 2:
		p.ids, p.places = true, true
	default:
		p.places = true
	}
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

func (p *producer) step(o op) bool {
	switch o.kind {
	case opSend:
		return p.send(newRand(o.n))
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

// frame puts packets of one repository on the stream.
func (p *producer) frame(packets []*sent) {
	s := p.stream
	take := func(r reply) { s.answer(func() { p.reply(r) }) }
	p.ask(request{
		serve: func(d *leader) { d.offer(packets, take) },
		refuse: func() {
			for _, x := range packets {
				p.reply(reply{p: x, failure: notLeader})
			}
		},
	})
}

// send puts a frame of one repository on the stream: a resend of all that is not
// acknowledged, or something new.
func (p *producer) send(r *rand.Rand) bool {
	l := p.lanes[r.IntN(len(p.lanes))]
	if len(p.stream.out) >= maxOut {
		return false
	}
	if len(l.unacked) > 0 && (l.resend || r.IntN(10) == 0) {
		l.resend = false
		n := len(l.unacked)
		if r.IntN(4) == 0 {
			n = 1 + r.IntN(n)
			l.resend = true
		}
		p.frame(append([]*sent(nil), l.unacked[:n]...))
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
	p.frame(frame)
	return true
}

func (p *producer) fresh(l *outLane, r *rand.Rand) *sent {
	p.w.serial++
	s := &sent{serial: p.w.serial, repo: l.repo, group: p.group, producer: p.name, epoch: p.epoch, rank: repository.RankNormal}
	if r.IntN(4) == 0 {
		s.rank = repository.Rank(r.IntN(repository.Ranks))
	}
	if most := p.w.set.TTLMs; most > 0 && r.IntN(3) == 0 {
		s.ttl = uint64(1 + r.IntN(most))
	}
	if w := p.w; w.set.Policies > 0 && r.IntN(4) == 0 {
		if s.delay = uint64(r.IntN(2000)); s.ttl > 0 {
			s.delay %= s.ttl
		}
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

func (p *producer) lane(repo string) *outLane {
	for _, l := range p.lanes {
		if l.repo == repo {
			return l
		}
	}
	return nil
}

// reply takes an answer.
func (p *producer) reply(r reply) {
	l := p.lane(r.p.repo)
	l.last = r
	p.w.note("%s got %d %d for %d", p.name, r.failure, r.result.Code, r.p.serial)
	if r.p.epoch != p.epoch && p.places {
		return
	}
	if r.failure != decided {
		l.resend = true
		return
	}
	switch r.result.Code {
	case repository.OK, repository.Duplicate:
		p.w.oracle.acked(r.p, &r.result)
		l.ack(r.p)
	case repository.Gap, repository.UnknownProducer:
		// It may expect what was acknowledged long ago: a leader that does not know yet
		// that it is deposed refuses from what it knows, and a refusal proves nothing.
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
