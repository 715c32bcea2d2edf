package sim

import (
	"sort"

	"github.com/waystation/waystation/actors/repository"
)

// local says that a key is a replica's own and no part of the logical state.
func local(key []byte) bool {
	const manifest, spill, meta = 0x0f, 0x10, 0x01
	return key[2] == manifest || key[2] == spill || key[2] == meta && len(key) == 4 && key[3] == 'x'
}

// overlay lays an entry's writes over the state.
func (t *truth) overlay(eff *repository.Effects) {
	drop := func(k string) {
		if v, ok := t.kv[k]; ok {
			t.sum ^= hashOf([]byte(k), []byte(v))
			delete(t.kv, k)
		}
	}
	eff.Each(func(kind repository.OpKind, key, value []byte) {
		if local(key) {
			return
		}
		k := string(key)
		switch kind {
		case repository.OpSet, repository.OpSetNew:
			drop(k)
			t.kv[k] = string(value)
			t.sum ^= hashOf(key, value)
		case repository.OpDelete:
			drop(k)
		case repository.OpDeleteRange:
			for k := range t.kv {
				if k >= string(key) && k < string(value) {
					drop(k)
				}
			}
		}
	})
}

// sum is the checksum of a replica's logical state.
func (o *oracle) sumOf(g *group) (sum uint64) {
	lower, upper := g.sm.keyRange()
	o.w.must(g.life.states.Scan(lower, upper, func(k, v []byte) bool {
		if g.part == nil || !local(k) {
			sum ^= hashOf(k, v)
		}
		return true
	}))
	return sum
}

// verify compares a replica's state with what was committed.
func (o *oracle) verify(g *group) {
	t := o.groups[g.id]
	at, _, err := g.sm.found()
	o.w.must(err)
	if at < t.first {
		return
	}
	sum := o.sumOf(g)
	if at-t.first >= uint64(len(t.applied)) {
		o.w.violate("node %d: group %d is applied to %d, which was never committed", g.life.id, g.id, at)
	}
	if want := t.applied[at-t.first].sum; sum != want {
		o.w.violate("node %d: the state of group %d at %d differs%s", g.life.id, g.id, at, o.difference(g))
	}
}

// difference names the first keys that differ from the newest state.
func (o *oracle) difference(g *group) (text string) {
	t := o.groups[g.id]
	if g.part == nil || g.part.machine.Applied() != t.first+uint64(len(t.applied))-1 {
		return ""
	}
	t.keys = t.keys[:0]
	for k := range t.kv {
		t.keys = append(t.keys, k)
	}
	sort.Strings(t.keys)
	for _, k := range t.keys {
		v, err := g.life.states.Get([]byte(k))
		if err != nil || string(v) != t.kv[k] {
			return ", at key " + hexOf(k)
		}
	}
	return ", it has more"
}

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b []byte
	for i := range len(s) {
		b = append(b, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(b)
}

// read checks a payload: it is what was sent under that number (P1).
func (o *oracle) read(g *group, n uint64) bool {
	names := o.w.repos(int(g.id))
	repo := names[n%uint64(len(names))]
	items, err := g.part.machine.Packets([]byte(repo), repository.Seq(n>>8%40), 5, nil)
	o.w.must(err)
	if len(items) == 0 {
		return false
	}
	it := items[(n>>16)%uint64(len(items))]
	o.payload(g, repo, it.Seq, it.Ref)
	return true
}
