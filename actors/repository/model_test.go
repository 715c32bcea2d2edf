package repository

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

// The model is what the promises say, in the plainest form: lists and maps, no
// keys, no indexes, no cursors. The machine is driven at random, several commands
// an entry, and compared after each: every result, everything retained, every lane
// that can run. Only what maintenance chooses to end first is taken over from it.

const (
	modelGroups    = 3
	modelRetention = 6 * hour
	modelIdle      = 4 * hour
	modelBacklog   = 60
)

type modelPacket struct {
	repo     string
	seq      Seq
	rank     Rank
	content  string
	index    uint64
	acceptAt int64
	expireAt int64
	readyAt  int64
	gone     bool // not retained any more
	id       string
	crc      uint32
	// Of one that was redriven:
	only     GroupID // whose alone it is
	of       Seq
	retireAt int64
}

// deadline is when the packet's time is over, in the index of deadlines.
func (p *modelPacket) deadline() int64 { return p.expireAt + p.retireAt }

// Why a packet does not wait in a lane: "done", "dead", or:
const before = "before" // the group never asked for it

type modelHead struct {
	seq       Seq
	attempts  uint32
	notBefore int64
	failures  int
	silent    bool // all of them
}

type modelDead struct {
	reason   Reason
	at       int64
	attempts uint32
}

type modelLane struct {
	settled map[Seq]string
	dead    map[Seq]modelDead
	blocked Seq // a dead letter that waits all the same
	parkTo  Seq
	lease   Token
	rank    Rank
	last    Seq // of what was granted
	done    Seq // the last of it that is done
	held    []*modelPacket
	over    []modelEnded // newest first
	heads   [Ranks]modelHead
	results map[Seq]modelResult
}

// modelEnded is a lease that is over, and what it held.
type modelEnded struct {
	ended
	last Seq
}

type modelGroup struct {
	cfg        GroupConfig
	startIndex uint64
}

type modelProducer struct {
	epoch    uint64
	accepted []Seq // by position - 1
	seen     int64
	fresh    bool
}

type modelID struct {
	seq   Seq
	until int64
}

type modelResult struct {
	text  string
	until int64
}

type modelRepo struct {
	name      string
	packets   []*modelPacket
	producers map[string]*modelProducer
	ids       map[string]modelID
	lanes     map[GroupID]*modelLane
}

type model struct {
	*cluster
	rng    *rand.Rand
	repos  []*modelRepo
	groups map[GroupID]*modelGroup
	fences map[string]fence
	due    []modelDue
	idle   []modelIdleProducer
	swept  uint64 // the last entry with a sweep
	n      int
}

// modelDue says when to look whether a packet's time to live has passed.
type modelDue struct {
	at int64
	p  *modelPacket
}

// modelIdleProducer says when to look whether a producer still sends.
type modelIdleProducer struct {
	at       int64
	r        *modelRepo
	producer string
}

func newModel(t testing.TB, seed uint64) *model {
	m := &model{
		cluster: newCluster(t), rng: rand.New(rand.NewPCG(seed, 1)),
		groups: map[GroupID]*modelGroup{}, fences: map[string]fence{},
	}
	for i := range 4 {
		m.repos = append(m.repos, &modelRepo{
			name: fmt.Sprintf("acme/repo\x00%d", i), producers: map[string]*modelProducer{}, ids: map[string]modelID{},
			lanes: map[GroupID]*modelLane{},
		})
	}
	m.run(m.configure())
	return m
}

// command is one of an entry, and what the model makes of its result.
type command struct {
	build func(e *EntryBuilder)
	check func(res *Results)
}

// run applies commands as one entry.
func (m *model) run(list ...command) {
	m.t.Helper()
	res := m.do(func(e *EntryBuilder) {
		for _, c := range list {
			c.build(e)
		}
	})
	for _, c := range list {
		c.check(res)
	}
	if len(res.Publish)+len(res.Grants)+len(res.Settles) > 0 {
		m.t.Fatalf("entry %d has more results than commands: %+v", m.index(), res)
	}
	m.checkAll()
}

func (m *model) configure() command {
	cfg := DefaultConfig()
	cfg.RetentionMs, cfg.ProducerIdleMs, cfg.BacklogPackets = modelRetention, modelIdle, modelBacklog
	return command{func(e *EntryBuilder) { e.AddConfigure(&cfg) }, func(*Results) {}}
}

func (m *model) anyRepo() *modelRepo { return m.repos[m.rng.IntN(len(m.repos))] }
func (m *model) anyGroup() GroupID   { return GroupID(1 + m.rng.IntN(modelGroups)) }

// group makes a group, or changes its settings.
func (m *model) group(g GroupID) command {
	cfg := DefaultGroupConfig(fmt.Sprintf("g%d", g))
	cfg.ID, cfg.MaxAttempts, cfg.MaxBatch = g, uint64(1+m.rng.IntN(4)), uint64(2+m.rng.IntN(5))
	cfg.OrderPolicy = OrderPolicy(m.rng.IntN(3))
	cfg.ResultTTLMs = uint64(m.rng.IntN(3)) * 20 * minute
	cfg.SetKindTTL("fast", 5*second)
	cfg.SetKindTTL("slow", uint64(m.rng.IntN(2))*3*hour)
	if cfg.Start = StartEarliest; m.rng.IntN(2) == 0 {
		cfg.Start = StartLatest
	}
	if known := m.groups[g]; known != nil {
		cfg.Version = known.cfg.Version + uint64(m.rng.IntN(2))
	}
	return command{func(e *EntryBuilder) { e.AddSetGroup(&cfg) }, func(*Results) { m.setGroup(cfg) }}
}

func (m *model) publish() command {
	r := m.anyRepo()
	var items []*PublishItem
	for range 1 + m.rng.IntN(5) {
		items = append(items, m.packet(r))
	}
	check := func(res *Results) {
		for i, it := range items {
			if want, got := m.expectPublish(r, it), res.Publish[i]; got != want {
				m.t.Fatalf("entry %d publishes %+v: got %+v, want %+v", m.index(), it, got, want)
			}
		}
		res.Publish = res.Publish[len(items):]
	}
	return command{publishOf(r.name, items...), check}
}

// packet is a random one, now and then with a position that is wrong.
func (m *model) packet(r *modelRepo) *PublishItem {
	m.n++
	it := prioritized(Rank(m.rng.IntN(Ranks)))
	content := packet(fmt.Sprintf("content-%d", m.n))
	it.Raw, it.RawCRC, it.ContentCRC = content.Raw, content.RawCRC, content.ContentCRC
	if m.rng.IntN(6) == 0 {
		it.TTLMs = uint64(1 + m.rng.IntN(5000))
	}
	if m.rng.IntN(6) == 0 {
		it.DeliverAfterMs = uint64(1 + m.rng.IntN(2000))
	}
	if m.rng.IntN(3) > 0 {
		it.Producer = fmt.Appendf(nil, "p%d", m.rng.IntN(2))
		it.Epoch, it.Sequence = 1, 1
		if p := r.producers[string(it.Producer)]; p != nil {
			it.Epoch, it.Sequence = p.epoch, uint64(len(p.accepted)+1)
		}
		switch m.rng.IntN(10) {
		case 0:
			it.Sequence = max(1, it.Sequence-uint64(m.rng.IntN(4)))
		case 1:
			it.Sequence += uint64(1 + m.rng.IntN(2))
		case 2:
			it.Epoch, it.Sequence = max(it.Epoch, m.fences[string(it.Producer)].epoch)+uint64(m.rng.IntN(2)), 1
		case 3:
			it.Epoch = max(1, it.Epoch-1)
		}
	}
	if m.rng.IntN(3) == 0 {
		it.ID = fmt.Appendf(nil, "id%d", m.rng.IntN(12))
	}
	return it
}

func (m *model) grant(r *modelRepo, g GroupID, n int) command {
	build := func(e *EntryBuilder) {
		e.AddGrant(&Grant{Group: g, Repo: []byte(r.name), Session: fmt.Appendf(nil, "w%d", g), MaxItems: uint32(n), MaxBytes: 1 << 20})
	}
	return command{build, func(res *Results) {
		m.checkGrant(r, g, n, &res.Grants[0])
		res.Grants = res.Grants[1:]
	}}
}

// settle is a random settlement: mostly of what is leased, now and then of a
// lease that is over, or nonsense.
func (m *model) settle() command {
	r, g := m.anyRepo(), m.anyGroup()
	s := Settle{Group: g, Repo: []byte(r.name), Kind: SettleKind(m.rng.IntN(5)), Error: []byte("boom")}
	if m.rng.IntN(4) == 0 {
		s.RetryAfterMs = uint64(m.rng.IntN(20_000))
	}
	if l := r.lanes[g]; l != nil {
		switch s.Token = l.lease; {
		case len(l.over) > 0 && (s.Token == 0 || m.rng.IntN(8) == 0):
			x := l.over[min(m.rng.IntN(2*len(l.over)), m.rng.IntN(len(l.over)))]
			s.Token = x.token
			s.Through = []Seq{0, x.through, x.last + 1}[m.rng.IntN(3)]
			s.Failed = x.failed + Seq(m.rng.IntN(8)/7)
			if m.rng.IntN(2) == 0 {
				s.Kind = x.kind
			}
		case s.Token != 0:
			m.fill(&s, l.held)
		}
	}
	if m.rng.IntN(16) == 0 {
		s.Token = Token(m.rng.Uint64N(m.index() + 3))
		s.Through = 0
	}
	if !s.Kind.fails() {
		s.Failed = 0
	}
	return m.settleOf(r, s)
}

// fill settles some of what is held, and now and then over a hole.
func (m *model) fill(s *Settle, held []*modelPacket) {
	n := m.rng.IntN(len(held) + 1)
	if n > 0 {
		s.Through = held[n-1].seq
	}
	if n < len(held) {
		s.Failed = held[min(n+m.rng.IntN(8)/7, len(held)-1)].seq
	}
	for _, p := range held {
		if m.rng.IntN(3) == 0 {
			left := Left{Kind: []byte(m.kindOf(p.seq)), ID: []byte(p.id), ContentCRC: p.crc, Data: fmt.Appendf(nil, "result of %d", p.seq)}
			s.Results = append(s.Results, SettleResult{p.seq, left.Append(nil)})
		}
	}
}

// kindOf is the kind of a packet, of which some have a time to live of their own.
func (m *model) kindOf(seq Seq) string { return []string{"", "fast", "slow"}[seq%3] }

func (m *model) settleOf(r *modelRepo, s Settle) command {
	return command{settleOf(s), func(res *Results) {
		if want, got := m.expectSettle(r, &s), res.Settles[0]; got != want {
			m.t.Fatalf("entry %d settles %+v: got %+v, want %+v", m.index(), s, got, want)
		}
		res.Settles = res.Settles[1:]
	}}
}

// maintenance is a command of which the machine chooses what it ends.
func (m *model) maintenance() command {
	limit := uint32(1 + m.rng.IntN(5))
	switch k := m.rng.IntN(6); {
	case k == 5:
		return m.parkSome(limit)
	case k < 2 && m.swept <= m.index(): // else what the sweep ended would not be known
		return command{func(e *EntryBuilder) { e.AddExpire(limit) }, func(*Results) { m.expire(int(limit)) }}
	case k < 3:
		return m.sweep(limit)
	case k == 3:
		return command{func(e *EntryBuilder) { e.AddHousekeep(limit) }, func(*Results) { m.housekeep(int(limit)) }}
	}
	g := m.anyGroup()
	return command{func(e *EntryBuilder) { e.AddBackfill(g, limit) }, func(*Results) {}}
}

// sweep is the only one in its entry, so that what it ended is known.
func (m *model) sweep(limit uint32) command {
	if m.swept == m.index()+1 {
		return m.publish()
	}
	m.swept = m.index() + 1
	return command{func(e *EntryBuilder) { e.AddSweep(limit) }, func(*Results) { m.adoptSwept() }}
}

func (m *model) fence() command {
	name := fmt.Sprintf("p%d", m.rng.IntN(2))
	epoch := m.fences[name].epoch + uint64(m.rng.IntN(2))
	return command{func(e *EntryBuilder) { e.AddFence([]byte(name), epoch) }, func(*Results) {
		if epoch > m.fences[name].epoch {
			m.fences[name] = fence{epoch, m.now}
		}
	}}
}

func (m *model) anyCommand() command {
	switch k := m.rng.IntN(100); {
	case k < 32:
		return m.publish()
	case k < 60:
		return m.grant(m.anyRepo(), m.anyGroup(), 1+m.rng.IntN(5))
	case k < 84:
		return m.settle()
	case k < 88 && m.swept <= m.index(): // else what the sweep ended would not be known
		return m.endDead()
	case k < 98:
		return m.maintenance()
	case k < 99:
		return m.fence()
	}
	return m.group(m.anyGroup())
}

func (m *model) step() {
	for m.rng.IntN(2) == 0 {
		m.query(m.first())
	}
	switch k := m.rng.IntN(40); {
	case k < 6:
		m.now += int64(m.rng.IntN(20_000))
	case k == 6:
		m.now += int64(m.rng.IntN(2 * hour))
	case k == 7:
		m.spillSome(m.replicas[m.rng.IntN(2)])
	case k == 8:
		m.replicas[m.rng.IntN(2)].restart()
	default:
		var list []command
		for more := true; more; more = m.rng.IntN(5) < 2 {
			list = append(list, m.anyCommand())
		}
		m.run(list...)
	}
}

func (m *model) spillSome(rep *replica) {
	for n := m.rng.IntN(60); n > 0 && rep.m.Spilled() < m.index(); n-- {
		rep.eff.Reset()
		i := rep.m.Spilled() + 1
		if err := rep.m.Spill(i, func() ([]byte, error) { return m.log[i-1], nil }, &rep.eff); err != nil {
			m.t.Fatal(err)
		}
		rep.state.write(&rep.eff)
	}
	m.checkPayloads(rep)
}

// drain works everything off and checks that nothing is left.
func (m *model) drain() {
	for g := GroupID(1); g <= modelGroups; g++ {
		if m.groups[g] == nil {
			m.run(m.group(g))
		}
	}
	for round := 0; m.busy(); round++ {
		if round > 2000 {
			m.t.Fatal("the backlog does not end")
		}
		var list []command
		for _, r := range m.repos {
			for g := GroupID(1); g <= modelGroups; g++ {
				if l := r.lanes[g]; l.blocked != 0 {
					list = append(list, m.endDeadOf(DeadDiscard, DeadFilter{Group: g, Repo: []byte(r.name), Seq: l.blocked}, 1))
				} else if l.lease != 0 {
					list = append(list, m.settleOf(r, Settle{Group: g, Repo: []byte(r.name), Token: l.lease, Through: l.last}))
				}
				list = append(list, m.grant(r, g, 8))
			}
		}
		m.run(append(list, m.parkSome(1000), m.sweep(100))...)
		m.now += 10 * minute // what nobody asked for ends with its retention
	}
	m.now += 2 * minute
	m.run(command{func(e *EntryBuilder) { e.AddExpire(1000) }, func(*Results) { m.expire(1000) }})
	for _, rep := range m.replicas {
		for k := range rep.state.all() { // of what nobody refers to
			switch k[2] {
			case tableRun, tableRunnable, tableLease, tableDeadline, tableAgain, tableParking:
				m.t.Fatalf("left after the drain: %x", k)
			}
		}
	}
}

func (m *model) busy() bool {
	for _, r := range m.repos {
		for _, p := range r.packets {
			if !p.gone {
				return true
			}
		}
	}
	return false
}

var (
	modelSeeds = flag.Int("model.seeds", 0, "how many seeds the model test runs; 0: as many as take a few seconds")
	modelFirst = flag.Uint64("model.first", 0, "the model test's first seed")
)

func TestMachineAgainstModel(t *testing.T) {
	seeds := *modelSeeds
	switch {
	case seeds > 0:
	case testing.Short():
		seeds = 5
	default:
		seeds = 100
	}
	for i := range seeds {
		seed := *modelFirst + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			passed := false
			defer func() {
				if !passed { // a panic too
					t.Logf("to repeat: go test ./actors/repository -run '^TestMachineAgainstModel$' -model.first %d -model.seeds 1", seed)
				}
			}()
			m := newModel(t, seed)
			for range 400 {
				m.step()
			}
			m.drain()
			passed = !t.Failed()
		})
	}
}
