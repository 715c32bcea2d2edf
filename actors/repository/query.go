package repository

import (
	"bytes"
	"cmp"
	"slices"
)

// RepoInfo is a repository as the outside sees it.
type RepoInfo struct {
	Head         Seq
	Backlog      uint64 // retained packets
	BacklogBytes uint64
	Counts       [Ranks]uint64
}

// StoredItem is one retained packet.
type StoredItem struct {
	Seq        Seq
	Rank       Rank
	Ref        Ref
	AcceptedMs int64
}

// Applied is the index of the last applied entry.
func (m *Machine) Applied() uint64 { return m.applied }

// LogTime is the partition's clock, in Unix milliseconds.
func (m *Machine) LogTime() int64 { return m.logTimeMs }

// Config is the settings that Apply goes by.
func (m *Machine) Config() Config { return m.cfg }

// Retained counts the packets and bytes that the partition keeps.
func (m *Machine) Retained() (packets, bytes uint64) {
	for _, n := range m.stats.live {
		packets += n
	}
	return packets, m.stats.bytes
}

// Groups lists the groups that the partition knows, by id.
func (m *Machine) Groups() []GroupConfig {
	out := make([]GroupConfig, len(m.groups))
	for i, g := range m.groups {
		out[i] = g.cfg
	}
	return out
}

// GroupByName finds a group.
func (m *Machine) GroupByName(name string) (GroupConfig, bool) {
	for i := len(m.groups) - 1; i >= 0; i-- { // should an older one not be deleted yet, the newer counts
		if g := m.groups[i]; g.cfg.Name == name {
			return g.cfg, true
		}
	}
	return GroupConfig{}, false
}

// Position is where a producer stands in a repository.
func (m *Machine) Position(repo, producer []byte) (epoch, last uint64, known bool, err error) {
	r, err := m.loadRepo(repo)
	if err != nil {
		return 0, 0, false, err
	}
	defer m.repos.trim()
	p, err := m.loadProducer(r, producer)
	if err != nil || p == nil {
		return m.fences[string(producer)].epoch, 0, false, err
	}
	if f := m.fences[string(producer)]; f.epoch > p.epoch {
		return f.epoch, 0, true, nil // nothing was accepted under it yet
	}
	return p.epoch, p.last, true, nil
}

// Receipt answers a resend of an accepted position: Duplicate with its number,
// else the code with which Apply would refuse it, or OK if Apply must decide.
func (m *Machine) Receipt(repo, producer []byte, epoch, position uint64) (Seq, Code, error) {
	r, err := m.loadRepo(repo)
	if err != nil {
		return 0, OK, err
	}
	defer m.repos.trim()
	p, err := m.loadProducer(r, producer)
	if err != nil || p == nil {
		return 0, OK, err
	}
	res, decided := m.checkPosition(p, &published{producer: producer, epoch: epoch, position: position})
	if !decided || res.Code == Gap {
		return 0, OK, nil
	}
	return res.Seq, res.Code, nil
}

// FindID looks a packet id up in the dedup window.
func (m *Machine) FindID(repo, id []byte) (seq Seq, contentCRC uint32, found bool, err error) {
	return m.findID(string(repo), id)
}

// Repo describes a repository; ok is false if nothing was ever accepted for it.
func (m *Machine) Repo(repo []byte) (info RepoInfo, ok bool, err error) {
	r, err := m.loadRepo(repo)
	if err != nil {
		return info, false, err
	}
	defer m.repos.trim()
	info = RepoInfo{Head: r.head, Backlog: r.count(), BacklogBytes: r.bytes}
	for i := range r.ranks {
		info.Counts[i] = r.ranks[i].count
	}
	return info, r.head > 0, nil
}

// Packets lists retained packets of all priorities in the order of their numbers.
func (m *Machine) Packets(repo []byte, from Seq, limit int, dst []StoredItem) ([]StoredItem, error) {
	r, err := m.loadRepo(repo)
	if err != nil {
		return dst, err
	}
	defer m.repos.trim()
	start := len(dst)
	for rank := range Rank(Ranks) {
		if r.ranks[rank].count == 0 {
			continue
		}
		low := max(from, r.ranks[rank].first)
		n := len(dst) + limit
		for w := m.walk(r, nil, rank, low); len(dst) < n; {
			x, err := w.next()
			if err != nil {
				return dst, err
			}
			if x == nil {
				break
			}
			for i := x.above(low - 1); i < len(x.items) && len(dst) < n; i++ {
				dst = append(dst, StoredItem{x.items[i].seq, rank, x.ref(i), x.acceptedMs})
			}
		}
	}
	found := dst[start:]
	slices.SortFunc(found, func(a, b StoredItem) int { return cmp.Compare(a.Seq, b.Seq) })
	return dst[:start+min(len(found), limit)], nil
}

// Due says which maintenance would find work.
type Due struct{ Expire, Sweep, Housekeep, Park, Remove bool }

// Any says whether any would.
func (d Due) Any() bool { return d.Expire || d.Sweep || d.Housekeep || d.Park || d.Remove }

// Due says which maintenance would find work at a log time.
func (m *Machine) Due(now int64) (due Due, err error) {
	first := func(table byte, until int64) (found bool) {
		lower, upper := bytes.Clone(m.key(table)), bytes.Clone(appendU64(m.key(table), uint64(max(until, 0))+1))
		if e := m.base.Scan(lower, upper, func(_, _ []byte) bool { found = true; return false }); e != nil {
			err = e
		}
		return found
	}
	due.Remove = len(m.doomed) > 0
	due.Expire = first(tableDeadline, now)
	parking := bytes.Clone(m.key(tableParking))
	if e := m.base.Scan(parking, keyAfter(parking), func(_, _ []byte) bool { due.Park = true; return false }); e != nil {
		err = e
	}
	due.Sweep = m.overBytes() || first(tableAge, now-int64(m.cfg.RetentionMs)) || first(tableDeadAge, now-int64(m.cfg.DeadRetentionMs))
	due.Housekeep = first(tableIdle, now-int64(m.cfg.ProducerIdleMs)) || len(m.fenceAge) > 0 && m.idle(m.fenceAge[0].atMs, now)
	if len(m.buckets) > 0 && m.expired(&m.buckets[0], now) {
		due.Housekeep = true
	}
	return due, err
}

// Depths visits the groups with what waits in them by priority, and their dead letters.
func (m *Machine) Depths(visit func(g *GroupConfig, waiting [Ranks]uint64, dead uint64)) {
	for _, g := range m.groups {
		visit(&g.cfg, g.waiting, g.dead)
	}
}

// AppliedKey is the key of the applied index, for a look at what is durable. The
// result is new memory.
func (m *Machine) AppliedKey() []byte { return cloneKey(m.keyMeta(metaApplied)) }

// SpilledKey is the key of the spilled index, likewise.
func (m *Machine) SpilledKey() []byte { return cloneKey(m.keyMeta(metaSpilled)) }
