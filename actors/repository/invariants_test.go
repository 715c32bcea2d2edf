package repository

import (
	"encoding/binary"
	"testing"
)

// census is a recount of a partition's state from its records alone.
type census struct {
	t      testing.TB
	rep    *replica
	m      *Machine
	repos  map[string]*repo
	items  map[string][Ranks][]runItem // retained, in order
	lanes  map[GroupID]map[string]*lane
	places map[GroupID]map[string]*[Ranks]int64
	leases map[mark]Token
	dead   map[GroupID]int
	again  map[GroupID]map[string]*[Ranks][]Seq
	keys   map[byte]map[mark]int // of indexes: what they point at, and how often
}

// mark is what an entry of an index points at. What it does not have is zero.
type mark struct {
	at   uint64
	g    GroupID
	name string
	rest string // of the key
}

// checkState recounts a replica's state: every counter, index and table must follow
// from the records that they are about.
func checkState(t testing.TB, rep *replica) {
	t.Helper()
	c := &census{
		t: t, rep: rep, m: rep.m, repos: map[string]*repo{}, items: map[string][Ranks][]runItem{},
		lanes: map[GroupID]map[string]*lane{}, places: map[GroupID]map[string]*[Ranks]int64{},
		leases: map[mark]Token{}, dead: map[GroupID]int{}, again: map[GroupID]map[string]*[Ranks][]Seq{}, keys: map[byte]map[mark]int{},
	}
	for k, v := range rep.state.all() {
		if k[2] == tableRepo {
			name, _, _ := splitRepo([]byte(k[3:]))
			r := &repo{id: string(name)}
			c.must(r.decode(v))
			c.repos[r.id] = r
		}
	}
	for k, v := range rep.state.all() {
		c.record(k[2], []byte(k[3:]), v)
	}
	c.checkRepos()
	c.checkLanes()
	c.checkIndexes()
}

func (c *census) must(err error) {
	if err != nil {
		c.t.Helper()
		c.t.Fatal(err)
	}
}

// note counts an entry of an index; under table|0x80 what there must be one for.
func (c *census) note(table byte, x mark) {
	if c.keys[table] == nil {
		c.keys[table] = map[mark]int{}
	}
	c.keys[table][x]++
}

func spilled(index uint64, base uint32, kind byte) mark {
	return mark{at: index, rest: string(append(appendU32(nil, base), kind))}
}

func (c *census) record(table byte, k, v []byte) {
	group := func() GroupID {
		g := GroupID(binary.BigEndian.Uint32(k))
		k = k[4:]
		return g
	}
	name := func() string {
		n, rest, ok := splitRepo(k)
		if !ok {
			c.t.Fatalf("table %x: key %x", table, k)
		}
		k = rest
		return string(n)
	}
	switch table {
	case tableRun:
		repo := name()
		c.run(repo, Rank(k[0]), Seq(binary.BigEndian.Uint64(k[1:])), v)
	case tableLane:
		g := group()
		l := &lane{}
		c.must(l.decode(v))
		if c.lanes[g] == nil {
			c.lanes[g] = map[string]*lane{}
		}
		c.lanes[g][name()] = l
	case tableRunnable:
		g, rank, at := group(), Rank(k[0]), int64(binary.BigEndian.Uint64(k[1:]))
		k = k[9:]
		if c.places[g] == nil {
			c.places[g] = map[string]*[Ranks]int64{}
		}
		repo := name()
		if c.places[g][repo] == nil {
			c.places[g][repo] = &[Ranks]int64{}
		}
		if c.places[g][repo][rank] != 0 {
			c.t.Fatalf("lane %d %q has two places at %v", g, repo, rank)
		}
		c.places[g][repo][rank] = at
	case tableLease:
		d := decoder{b: v[1:]}
		if g := group(); c.m.group(g) != nil {
			c.leases[mark{g: g, name: name()}] = Token(d.uvarint())
		}
	case tableDead:
		g := group()
		var x deadRecord
		c.must(x.decode(v))
		c.dead[g]++
		repo := name()
		c.note(tableDeadAge|0x80, mark{uint64(x.atMs), g, repo, string(k)})
		c.refers(&x.ref, payloadDead, g, repo, k)
	case tableAgain:
		g := group()
		repo := name()
		var x again
		c.must(x.decode(v))
		if c.again[g] == nil {
			c.again[g] = map[string]*[Ranks][]Seq{}
		}
		if c.again[g][repo] == nil {
			c.again[g][repo] = &[Ranks][]Seq{}
		}
		list := &c.again[g][repo][k[0]]
		*list = append(*list, Seq(binary.BigEndian.Uint64(k[1:])))
		c.refers(&x.ref, payloadAgain, g, repo, k[1:])
		c.note(tableDeadline|0x80, mark{name: repo, rest: string(k)})
	case tablePayload:
		c.note(table, mark{rest: string(k)})
	case tableParking:
		if g := group(); c.m.group(g) != nil { // else it goes with the group
			c.note(table, mark{g: g, name: name()})
		}
	case tableDeadAge:
		at := binary.BigEndian.Uint64(k)
		k = k[8:]
		g := group()
		repo := name()
		c.note(table, mark{at, g, repo, string(k)})
	case tableDeadline:
		k = k[8:]
		repo := name()
		c.note(table, mark{name: repo, rest: string(k)})
	case tableAge:
		at := binary.BigEndian.Uint64(k)
		k = k[8:]
		c.note(table, mark{at: at, name: name()})
	case tableProducer:
		p := &producer{}
		c.must(p.decode(v))
		repo := name()
		c.note(table, mark{name: repo, rest: string(k)})
		if p.seenMs > c.m.logTimeMs || p.seenMs == 0 {
			c.t.Fatalf("producer seen at %d, now %d", p.seenMs, c.m.logTimeMs)
		}
	case tableIdle:
		k = k[8:]
		repo := name()
		c.note(table, mark{name: repo, rest: string(k)})
	case tableID, tableResult:
		b := binary.BigEndian.Uint32(k)
		if n := len(c.m.buckets); n > maxBuckets || n == 0 || b < c.m.buckets[0].id || b > c.m.buckets[n-1].id {
			c.t.Fatalf("bucket %d of %d: %+v", b, n, c.m.buckets)
		}
	case tableSpill:
		c.note(table, spilled(binary.BigEndian.Uint64(k), binary.BigEndian.Uint32(k[8:]), k[12]))
	}
}

// refers notes that a payload is referred to on its own.
func (c *census) refers(ref *Ref, of byte, g GroupID, repo string, seq []byte) {
	k := c.m.keyPayload(ref, of, g, repo, Seq(binary.BigEndian.Uint64(seq)))
	c.note(tablePayload|0x80, mark{rest: string(k[3:])})
	c.note(tableSpill|0x80, spilled(ref.Index, ref.Offset, spillSingle))
}

func (c *census) run(repo string, rank Rank, last Seq, v []byte) {
	var x run
	c.must(x.decode(v))
	r := c.repos[repo]
	if r == nil || x.last() != last {
		c.t.Fatalf("run of %q ends at %d, its key says %d", repo, x.last(), last)
	}
	all := c.items[repo]
	n := len(all[rank])
	for _, it := range x.items {
		if it.seq >= r.ranks[rank].first {
			all[rank] = append(all[rank], it)
		}
		if it.seq >= r.ranks[rank].first && it.expireMs != 0 {
			c.note(tableDeadline|0x80, mark{name: repo, rest: string(appendU64([]byte{byte(rank)}, uint64(it.seq)))})
		}
	}
	if len(all[rank]) == n {
		c.t.Fatalf("run of %q up to %d has nothing retained", repo, last)
	}
	c.note(tableSpill|0x80, spilled(x.index, x.base, spillRun))
	c.items[repo] = all
}

func (c *census) checkRepos() {
	var live [Ranks]uint64
	total := uint64(0)
	for name, r := range c.repos {
		size, oldest := uint64(0), Seq(0)
		for rank := range Rank(Ranks) {
			s, items := &r.ranks[rank], c.items[name][rank]
			delayed := uint64(0)
			for i := range items {
				size += uint64(items[i].length)
				if items[i].flags&itemDelay != 0 {
					delayed++
				}
				oldest = max(oldest, items[i].seq)
			}
			live[rank] += uint64(len(items))
			if s.count != uint64(len(items)) || s.delayed != delayed || oldest > r.head || len(items) > 0 && s.last < items[len(items)-1].seq {
				c.t.Fatalf("%q %v: %+v, recounted %d packets, %d delayed", name, rank, *s, len(items), delayed)
			}
		}
		if r.bytes != size || r.count() > 0 && r.aged == 0 {
			c.t.Fatalf("%q: %d bytes, recounted %d; aged %d", name, r.bytes, size, r.aged)
		}
		if r.aged != 0 {
			c.note(tableAge|0x80, mark{at: uint64(r.aged), name: name})
		}
		total += size
	}
	if live != c.m.stats.live || total != c.m.stats.bytes {
		c.t.Fatalf("%v packets of %d bytes, recounted %v of %d", c.m.stats.live, c.m.stats.bytes, live, total)
	}
}

// checkLanes: a lane waits at a priority exactly if its cursor is below its end, is
// in the index exactly if it waits and is not leased, and never later than it may run.
func (c *census) checkLanes() {
	leases := 0
	for _, g := range c.m.groups {
		var waiting [Ranks]uint64
		for name, r := range c.repos {
			l, stored := c.lanes[g.cfg.ID][name]
			if !stored {
				l = &lane{}
				l.begin(g, r)
			}
			places := c.places[g.cfg.ID][name]
			if places == nil {
				places = &[Ranks]int64{}
			}
			if *places != l.index {
				c.t.Fatalf("lane %d %q has places %v in the index, its record says %v", g.cfg.ID, name, *places, l.index)
			}
			if l.token != 0 {
				leases++
			}
			if t := c.leases[mark{g: g.cfg.ID, name: name}]; t != l.token {
				c.t.Fatalf("lane %d %q has token %d, the lease table %d", g.cfg.ID, name, l.token, t)
			}
			may := int64(-1)
			for rank := range Rank(Ranks) {
				n, ready := c.waiting(g.cfg.ID, name, l, rank)
				if n > 0 && (may < 0 || ready < may) {
					may = max(ready, l.hold())
				}
				waiting[rank] += n
				if waits(r, l, rank) != (n > 0) {
					c.t.Fatalf("lane %d %q %v: cursor %d of %d, and %d wait", g.cfg.ID, name, rank, l.cursors[rank], r.ranks[rank].last, n)
				}
			}
			if l.parkTo != 0 {
				c.note(tableParking|0x80, mark{g: g.cfg.ID, name: name})
			}
			c.checkPlaces(g, name, l, may)
		}
		if waiting != g.waiting || c.dead[g.cfg.ID] != int(g.dead) {
			c.t.Fatalf("group %d: %v wait and %d are dead, recounted %v and %d", g.cfg.ID, g.waiting, g.dead, waiting, c.dead[g.cfg.ID])
		}
	}
	if leases != len(c.leases) {
		c.t.Fatalf("%d leases in the table, %d in lanes", len(c.leases), leases)
	}
}

// waiting counts what waits in a lane at a priority, and says when its head may run.
func (c *census) waiting(g GroupID, repo string, l *lane, rank Rank) (n uint64, ready int64) {
	first := Seq(0)
	for i := range c.items[repo][rank] {
		if it := &c.items[repo][rank][i]; it.seq > l.cursors[rank] {
			if n++; n == 1 {
				first, ready = it.seq, it.readyMs
			}
		}
	}
	redriven := c.again[g][repo]
	if redriven == nil {
		redriven = &[Ranks][]Seq{}
	}
	if uint64(len(redriven[rank])) != l.again[rank] {
		c.t.Fatalf("lane %d %q %v: %d redriven packets, recounted %v", g, repo, rank, l.again[rank], redriven[rank])
	}
	for _, seq := range redriven[rank] {
		if seq <= l.cursors[rank] {
			c.t.Fatalf("lane %d %q %v: packet %d was redriven, the cursor is at %d", g, repo, rank, seq, l.cursors[rank])
		}
		if n++; first == 0 || seq < first {
			first, ready = seq, 0
		}
	}
	return n, ready
}

// checkPlaces: may is when the lane may run, below 0 if nothing waits.
func (c *census) checkPlaces(g *group, name string, l *lane, may int64) {
	first := int64(0)
	for _, at := range l.index {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	switch {
	case may < 0 || l.token != 0 || l.held():
		if first != 0 {
			c.t.Fatalf("lane %d %q can't run, and is in the index: %+v", g.cfg.ID, name, *l)
		}
	case first == 0 && g.indexed(name):
		c.t.Fatalf("lane %d %q waits for ever: %+v", g.cfg.ID, name, *l)
	case first > max(may, c.m.logTimeMs):
		c.t.Fatalf("lane %d %q may run at %d, and is indexed at %d", g.cfg.ID, name, may, first)
	}
}

// checkIndexes: what an index points at is there, once; and the other way round.
func (c *census) checkIndexes() {
	for _, table := range []byte{tableDeadAge, tablePayload, tableParking, tableAge} {
		for k, n := range c.keys[table] {
			if n != 1 || c.keys[table|0x80][k] != 1 {
				c.t.Fatalf("table %x has %+v%d times, its records %d", table, k, n, c.keys[table|0x80][k])
			}
		}
		if len(c.keys[table]) != len(c.keys[table|0x80]) {
			c.t.Fatalf("table %x has %v, its records %v", table, c.keys[table], c.keys[table|0x80])
		}
	}
	for k := range c.keys[tableDeadline|0x80] { // moved ones of packets that are gone may be left for a second
		if c.keys[tableDeadline][k] == 0 {
			c.t.Fatalf("packet %+v has no deadline", k)
		}
	}
	for k := range c.keys[tableProducer] {
		if c.keys[tableIdle][k] != 1 {
			c.t.Fatalf("producer %+v is %d times in the index", k, c.keys[tableIdle][k])
		}
	}
	if len(c.keys[tableProducer]) != len(c.keys[tableIdle]) {
		c.t.Fatalf("producers %v, in the index %v", c.keys[tableProducer], c.keys[tableIdle])
	}
	for k := range c.keys[tableSpill] {
		if c.keys[tableSpill|0x80][k] == 0 {
			c.t.Fatalf("payload %+v is spilled for nothing", k)
		}
	}
}
