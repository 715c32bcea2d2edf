package repository

import (
	"hash/crc32"
	"testing"

	"github.com/waystation/waystation/messages/envelope"
)

// replica is a machine with its state and the log that it applied.
type replica struct {
	t     testing.TB
	state *memState
	m     *Machine
	eff   Effects
	opt   Options
}

func newReplica(t testing.TB, opt Options) *replica {
	r := &replica{t: t, state: newMemState(), opt: opt}
	r.restart()
	return r
}

func (r *replica) restart() {
	m, err := New(3, r.state, r.opt)
	if err != nil {
		r.t.Fatal(err)
	}
	r.m = m
}

func (r *replica) apply(index uint64, data []byte) *Results {
	r.t.Helper()
	r.eff.Reset()
	if err := r.m.Apply(index, 1, data, &r.eff); err != nil {
		r.t.Fatalf("apply %d: %v", index, err)
	}
	r.state.write(&r.eff)
	return &r.eff.Results
}

// entry builds one at a time.
func entry(timeMs int64, build func(e *EntryBuilder)) []byte {
	var e EntryBuilder
	e.Reset(nil)
	build(&e)
	b := e.Bytes()
	envelope.Envelope{Version: envelope.Version1, Term: 1, Proposal: 1, TimeMs: timeMs}.Put(b)
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func packet(content string) *PublishItem {
	c := crc32.Checksum([]byte(content), castagnoli)
	return &PublishItem{Raw: []byte(content), RawCRC: c, ContentCRC: c, Rank: RankNormal}
}

func publishOf(repo string, items ...*PublishItem) func(*EntryBuilder) {
	return func(e *EntryBuilder) {
		e.BeginPublish()
		e.BeginRepo([]byte(repo))
		for _, it := range items {
			e.AddPacket(it)
		}
		e.EndRepo()
		e.EndPublish()
	}
}

// cluster is a log with replicas that must stay the same, whatever they cache and
// whenever they restart.
type cluster struct {
	t        testing.TB
	log      [][]byte // log[i] has index i+1
	now      int64
	replicas []*replica
}

func newCluster(t testing.TB) *cluster {
	c := &cluster{t: t, now: 1_700_000_000_000}
	c.replicas = []*replica{newReplica(t, Options{}), newReplica(t, Options{CachedRepositories: 1})}
	return c
}

func (c *cluster) index() uint64 { return uint64(len(c.log)) }

func (c *cluster) do(build func(*EntryBuilder)) *Results {
	c.t.Helper()
	c.log = append(c.log, entry(c.now, build))
	var res *Results
	for i := len(c.replicas) - 1; i >= 0; i-- {
		res = c.replicas[i].apply(c.index(), c.log[len(c.log)-1])
	}
	c.compare()
	return res // the first replica's
}

func (c *cluster) first() *Machine { return c.replicas[0].m }

// payload resolves a reference as a node does: the log above the spill, else the spill.
func (c *cluster) payload(r *replica, ref Ref) string {
	c.t.Helper()
	if ref.Index > r.m.Spilled() {
		return string(c.log[ref.Index-1][ref.Offset : ref.Offset+ref.Length])
	}
	b, ok, err := r.m.ReadSpill(ref)
	if err != nil || !ok {
		c.t.Fatalf("payload %+v: found %v, %v", ref, ok, err)
	}
	return string(b)
}

// compare holds the replicas against each other, byte by byte, without what is a
// replica's own: the spill, how far it got, and the manifests that it has used up.
func (c *cluster) compare() {
	c.t.Helper()
	a, b := c.replicas[0].state.first(), c.replicas[1].state.first()
	for a = a.logical(); a != nil; a = a.next[0].logical() {
		if b = b.logical(); b == nil || a.key != b.key || string(a.value) != string(b.value) {
			break
		}
		b = b.next[0]
	}
	if b = b.logical(); a == nil && b == nil {
		return
	}
	for i, n := range []*skipNode{a, b} {
		if n != nil {
			c.t.Errorf("replicas differ: %d has %x: %x", i, n.key, n.value)
		}
	}
	c.t.Fatalf("at entry %d", c.index())
}
