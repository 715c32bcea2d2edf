package repository

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/messages/envelope"
)

// Options of a Machine. They change what it costs, never what it decides.
type Options struct {
	// CachedRepositories bounds the repositories kept in memory; 0: 16,384.
	CachedRepositories int
	// CachedBytes bounds what these take, about, with what is known of their
	// producers, lanes and waiting packets; 0: 512 for each of CachedRepositories.
	CachedBytes int
}

// stats is the partition's record of itself, written with every entry that
// changes it.
type stats struct {
	live       [Ranks]uint64
	bytes      uint64
	nextBucket uint32
}

// Machine is one partition's replicated state machine. It is not safe for
// concurrent use, has no goroutine and no clock, and keeps nothing that the state
// does not have: what it caches, it can read again.
type Machine struct {
	part PartitionID
	base Reader

	cfg       Config
	groups    []*group // by id
	doomed    []*group // deleted, and not removed yet; oldest first
	fences    map[string]fence
	fenceAge  []fenceMark // oldest first
	buckets   []bucket    // oldest first
	stats     stats
	logTimeMs int64
	applied   uint64
	spilled   uint64
	repos     *repoCache

	delayed []delayedID // only where invariant.DedupApart is planted

	// Of the entry that is being applied:
	index      uint64
	eff        *Effects
	statsDirty bool
	touched    []touched
	manifest   []byte

	// Memory that is used again:
	runs         [Ranks]run
	positions    []moved
	picked       []GrantedItem
	spare        window // of the walk that is under way
	sweeping     window // of the sweep around it
	kbuf, vbuf   []byte
	lower, upper []byte
}

// New loads the partition's settings, groups and clock from its state.
func New(p PartitionID, r Reader, opt Options) (*Machine, error) {
	if opt.CachedRepositories <= 0 {
		opt.CachedRepositories = 16_384
	}
	if opt.CachedBytes <= 0 {
		opt.CachedBytes = 512 * opt.CachedRepositories
	}
	m := &Machine{
		part: p, base: r, cfg: DefaultConfig(), fences: map[string]fence{},
		repos: newRepoCache(opt.CachedRepositories, opt.CachedBytes),
	}
	m.cfg.Version = 0 // so that the first command sets it
	for _, load := range []func() error{m.loadMeta, m.loadFences, m.loadGroups} {
		if err := load(); err != nil {
			return nil, fmt.Errorf("load partition %d: %w", p, err)
		}
	}
	return m, nil
}

func (m *Machine) loadMeta() error {
	if v, ok, err := m.base.Get(m.keyMeta(metaApplied)); err != nil {
		return err
	} else if ok {
		if m.applied, err = DecodeUint(v); err != nil {
			return &CorruptError{cloneKey(m.kbuf), err.Error()}
		}
	}
	if v, ok, err := m.base.Get(m.keyMeta(metaSpilled)); err != nil {
		return err
	} else if ok {
		if m.spilled, err = DecodeUint(v); err != nil {
			return &CorruptError{cloneKey(m.kbuf), err.Error()}
		}
	}
	if v, ok, err := m.base.Get(m.keyMeta(metaConfig)); err != nil {
		return err
	} else if ok {
		if err := m.cfg.Decode(v); err != nil {
			return &CorruptError{cloneKey(m.kbuf), err.Error()}
		}
	}
	v, ok, err := m.base.Get(m.keyMeta(metaStats))
	if err != nil || !ok {
		return err
	}
	if err := m.decodeStats(v); err != nil {
		return &CorruptError{cloneKey(m.kbuf), err.Error()}
	}
	return nil
}

func (m *Machine) appendStats(b []byte) []byte {
	b = append(b, version1)
	b = binary.AppendUvarint(b, uint64(m.logTimeMs))
	for _, n := range m.stats.live {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, m.stats.bytes)
	b = binary.AppendUvarint(b, uint64(m.stats.nextBucket))
	b = binary.AppendUvarint(b, uint64(len(m.buckets)))
	for i := range m.buckets {
		b = binary.AppendUvarint(b, uint64(m.buckets[i].id))
		b = binary.AppendUvarint(b, uint64(m.buckets[i].startMs))
		b = binary.AppendUvarint(b, uint64(m.buckets[i].endMs))
		b = binary.AppendUvarint(b, uint64(m.buckets[i].untilMs))
	}
	return b
}

func (m *Machine) decodeStats(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	m.logTimeMs = int64(d.uvarint())
	for i := range m.stats.live {
		m.stats.live[i] = d.uvarint()
	}
	m.stats.bytes, m.stats.nextBucket = d.uvarint(), uint32(d.uvarint())
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		m.buckets = append(m.buckets, bucket{
			id: uint32(d.uvarint()), startMs: int64(d.uvarint()), endMs: int64(d.uvarint()), untilMs: int64(d.uvarint()),
		})
	}
	return d.err
}

func (m *Machine) loadFences() error {
	prefix := bytes.Clone(m.keyMeta(metaFence))
	var failed error
	err := m.base.Scan(prefix, keyAfter(prefix), func(k, v []byte) bool {
		d := decoder{b: v}
		f := fence{epoch: d.uvarint(), atMs: int64(d.uvarint())}
		if d.err != nil {
			failed = &CorruptError{bytes.Clone(k), d.err.Error()}
			return false
		}
		m.keepFence(string(k[len(prefix):]), f)
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}

func (m *Machine) loadGroups() error {
	prefix := bytes.Clone(m.key(tableGroup))
	var failed error
	err := m.base.Scan(prefix, keyAfter(prefix), func(k, v []byte) bool {
		g := &group{}
		if err := g.decode(v); err != nil {
			failed = &CorruptError{bytes.Clone(k), err.Error()}
			return false
		}
		if g.removal.since != 0 {
			m.doomed = append(m.doomed, g)
		} else {
			m.groups = append(m.groups, g)
		}
		return true
	})
	slices.SortStableFunc(m.doomed, func(a, b *group) int { return cmp.Compare(a.removal.since, b.removal.since) })
	if failed != nil {
		return failed
	}
	return err
}

// Apply decides what the committed entry at index does. eff gets the writes, the
// applied index among them, to be made in one atomic batch before the next call;
// and the results. An error means that this replica must stop: it is never
// skipped. The entry's bytes are not kept.
func (m *Machine) Apply(index, term uint64, data []byte, eff *Effects) error {
	if m.applied != 0 && index != m.applied+1 {
		return fmt.Errorf("apply entry %d: the last one was %d", index, m.applied)
	}
	m.index, m.eff, m.manifest = index, eff, m.manifest[:0]
	defer func() { m.eff = nil }()
	if invariant.Broken(invariant.DedupApart) {
		m.rememberDelayed()
	}
	if len(data) > 0 {
		if err := m.applyEntry(term, data); err != nil {
			return fmt.Errorf("apply entry %d: %w", index, err)
		}
	}
	if err := m.flush(); err != nil {
		return fmt.Errorf("apply entry %d: %w", index, err)
	}
	if len(m.manifest) > 0 {
		eff.setNew(m.keyManifest(index), m.manifest)
	}
	m.storeShared()
	m.applied = index
	eff.set(m.keyMeta(metaApplied), binary.BigEndian.AppendUint64(m.vbuf[:0], index))
	m.repos.trim()
	return nil
}

func (m *Machine) applyEntry(term uint64, data []byte) error {
	env, _, err := envelope.Parse(data)
	if err != nil {
		return err
	}
	if env.Term != term { // it was meant for a leadership that is over
		m.eff.Results.Void = true
		return nil
	}
	if env.TimeMs > m.logTimeMs {
		m.logTimeMs, m.statsDirty = env.TimeMs, true
	}
	return eachCommand(data, m.command)
}

func (m *Machine) command(kind byte, body []byte, off int) error {
	switch kind {
	case cmdPublish:
		return m.publish(body, off)
	case cmdGrant:
		return m.grant(body)
	case cmdSettle:
		return m.settle(body)
	case cmdExpire, cmdSweep, cmdHousekeep, cmdPark, cmdRemove:
		return m.maintain(kind, body)
	case cmdConfigure:
		return m.configure(body)
	case cmdSetGroup:
		return m.setGroup(body)
	case cmdDropGroup:
		return m.dropGroup(body)
	case cmdBackfill:
		return m.backfill(body)
	case cmdFence:
		return m.setFence(body)
	case cmdDead:
		return m.endDead(body)
	}
	return fmt.Errorf("command %d is unknown: this node is older than the cluster, upgrade it", kind)
}

func (m *Machine) maintain(kind byte, body []byte) error {
	d := decoder{b: body}
	limit := d.limit()
	if d.err != nil {
		return fmt.Errorf("decode limit: %w", d.err)
	}
	switch kind {
	case cmdExpire:
		return m.expire(limit)
	case cmdSweep:
		return m.sweep(limit)
	case cmdPark:
		return m.parkSome(limit)
	case cmdRemove:
		return m.remove(limit)
	}
	return m.housekeep(limit)
}

// storeShared writes what the entry changed of the partition's own records.
func (m *Machine) storeShared() {
	for _, list := range [][]*group{m.groups, m.doomed} {
		for _, g := range list {
			if g.dirty {
				g.dirty = false
				m.vbuf = g.append(m.vbuf[:0])
				m.eff.set(m.keyGroup(g.cfg.ID), m.vbuf)
			}
		}
	}
	if m.statsDirty {
		m.statsDirty = false
		m.vbuf = m.appendStats(m.vbuf[:0])
		m.eff.set(m.keyMeta(metaStats), m.vbuf)
	}
}

func (m *Machine) configure(body []byte) error {
	var c Config
	if err := c.Decode(body); err != nil {
		return err
	}
	if c.Version <= m.cfg.Version {
		return nil
	}
	m.cfg = c
	m.vbuf = c.Append(m.vbuf[:0])
	m.eff.set(m.keyMeta(metaConfig), m.vbuf)
	return nil
}

// DecodeUint reads the applied index, or the spilled one.
func DecodeUint(v []byte) (uint64, error) {
	if len(v) != 8 {
		return 0, fmt.Errorf("index of %d bytes", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}
