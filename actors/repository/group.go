package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
)

// group is a consumer group as the partition knows it.
type group struct {
	cfg        GroupConfig
	startIndex uint64 // packets of entries up to it are not the group's
	backfill   []byte // repositories up to it are indexed; nil: all
	waiting    [Ranks]uint64
	dead       uint64
	removal    removal
	dirty      bool
}

func (g *group) append(b []byte) []byte {
	b = append(b, version1)
	b = binary.AppendUvarint(b, g.startIndex)
	if g.backfill != nil {
		b = appendBytes(append(b, 1), g.backfill)
	} else {
		b = append(b, 0)
	}
	for _, n := range g.waiting {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, g.dead)
	b = g.removal.append(b)
	return g.cfg.Append(b)
}

func (g *group) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	g.startIndex = d.uvarint()
	if d.byte() == 1 {
		g.backfill = append([]byte{}, d.bytes()...)
	}
	for i := range g.waiting {
		g.waiting[i] = d.uvarint()
	}
	g.dead = d.uvarint()
	g.removal.decode(&d)
	if d.err != nil {
		return d.err
	}
	return g.cfg.Decode(b[d.off:])
}

// indexed says whether the group's runnable index covers the repository already.
// What it does not cover, the backfill finds later.
func (g *group) indexed(repo string) bool {
	return g.backfill == nil || bytes.Compare(appendRepo(nil, repo), g.backfill) <= 0
}

// asks says whether the packets of the entry at index are the group's.
func (g *group) asks(index uint64) bool { return g.startIndex < index }

func (m *Machine) group(id GroupID) *group {
	i := sort.Search(len(m.groups), func(i int) bool { return m.groups[i].cfg.ID >= id })
	if i < len(m.groups) && m.groups[i].cfg.ID == id {
		return m.groups[i]
	}
	return nil
}

// setGroup makes a group known, or changes it. It costs the same over millions of
// lanes: a lane that has no record is where its group starts.
func (m *Machine) setGroup(body []byte) error {
	var c GroupConfig
	if err := c.Decode(body); err != nil {
		return err
	}
	if g := m.group(c.ID); g != nil {
		if c.Version > g.cfg.Version {
			g.cfg, g.dirty = c, true
		}
		return nil
	}
	if m.deleted(c.ID) != nil {
		return nil // somebody has not heard of it yet
	}
	g := &group{cfg: c, dirty: true, backfill: []byte{}}
	if c.Start == StartLatest {
		g.startIndex, g.backfill = m.index, nil
	} else {
		g.waiting = m.stats.live
	}
	m.groups = append(m.groups, g)
	sort.Slice(m.groups, func(i, j int) bool { return m.groups[i].cfg.ID < m.groups[j].cfg.ID })
	return nil
}

// backfill indexes the lanes of repositories that were there before their group.
func (m *Machine) backfill(body []byte) error {
	d := decoder{b: body}
	gid, limit := GroupID(d.uvarint()), d.limit()
	if d.err != nil {
		return fmt.Errorf("decode backfill: %w", d.err)
	}
	g := m.group(gid)
	if g == nil || g.backfill == nil {
		return nil
	}
	// What this entry has published so far must be in the table that is read now.
	if err := m.flush(); err != nil {
		return err
	}
	names, err := m.repoNames(g.backfill, limit)
	if err != nil {
		return err
	}
	for _, escaped := range names {
		name, _, _ := splitRepo(escaped)
		if err := m.backfillRepo(g, name); err != nil {
			return err
		}
		g.backfill = append(g.backfill[:0], escaped...)
	}
	m.eff.Results.Worked += len(names)
	if len(names) < limit {
		g.backfill = nil
	}
	g.dirty = true
	return nil
}

// repoNames lists at most limit repositories after one, escaped as in their keys.
func (m *Machine) repoNames(after []byte, limit int) ([][]byte, error) {
	prefix := bytes.Clone(m.key(tableRepo))
	lower := append(bytes.Clone(prefix), after...)
	if len(after) > 0 {
		lower = append(lower, 0) // above it
	}
	var names [][]byte
	var failed error
	err := m.scan(lower, keyAfter(prefix), func(k, _ []byte) bool {
		if len(names) == limit {
			return false
		}
		if _, rest, ok := splitRepo(k[len(prefix):]); !ok || len(rest) > 0 {
			failed = &CorruptError{bytes.Clone(k), "repository key"}
			return false
		}
		names = append(names, bytes.Clone(k[len(prefix):]))
		return true
	})
	if failed != nil {
		return nil, failed
	}
	return names, err
}

func (m *Machine) backfillRepo(g *group, name []byte) error {
	r, err := m.loadRepo(name)
	if err != nil || r.count() == 0 {
		return err
	}
	l, err := m.loadLane(g, r)
	if err != nil {
		return err
	}
	m.touch(g, r, l)
	return nil
}
