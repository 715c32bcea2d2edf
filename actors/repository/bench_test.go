package repository

import (
	"fmt"
	"testing"

	"github.com/waystation/waystation/messages/envelope"
)

// BenchmarkPublish is Apply of entries of packets of 1 KiB, as natural batching
// makes them under load: a few packets each of many repositories, or long runs of
// few; with positions, with ids, or with positions of two producers that take turns,
// so that no run of their numbers goes on. One op is one packet.
func BenchmarkPublish(b *testing.B) {
	for _, shape := range []struct{ repos, each int }{{64, 1}, {64, 4}, {8, 30}} {
		for _, kind := range []string{"positions", "ids", "turns"} {
			b.Run(fmt.Sprintf("repos=%d/each=%d/%s", shape.repos, shape.each, kind), func(b *testing.B) {
				benchmarkPublish(b, shape.repos, shape.each, kind)
			})
		}
	}
}

func benchmarkPublish(b *testing.B, repos, each int, kind string) {
	b.StopTimer()
	g := newCoreBench(b)
	g.body = make([]byte, 1024)
	producers := [][]byte{[]byte("producer-0123456789"), []byte("producer-9876543210")}
	pos := uint64(0)
	b.ReportAllocs()
	b.ResetTimer()
	written := 0
	for n := 0; n < b.N; n += repos * each {
		g.apply(true, func(e *EntryBuilder) {
			e.BeginPublish()
			for r := range repos {
				e.BeginRepo(g.name(r))
				for i := range each {
					at := pos + uint64(i)
					it := PublishItem{Raw: g.body, Rank: RankNormal, Producer: producers[0], Epoch: 1, Sequence: at + 1}
					switch kind {
					case "ids":
						it.Producer, it.ID = nil, fmt.Appendf(nil, "id-%d", at)
					case "turns":
						it.Producer, it.Sequence = producers[at%2], at/2+1
					}
					e.AddPacket(&it)
				}
				e.EndRepo()
			}
			e.EndPublish()
		})
		pos += uint64(each)
		written += g.eff.Bytes()
		for i := range g.eff.Results.Publish {
			if x := &g.eff.Results.Publish[i]; x.Code != OK {
				b.Fatalf("publish: %+v", x)
			}
		}
	}
	b.ReportMetric(float64(written)/float64(pos)/float64(repos), "stateB/op")
	b.ReportMetric(float64(g.state.gets+g.state.scans)/float64(pos)/float64(repos), "reads/op")
}

// BenchmarkGrantSettle is the way out: entries that settle the leases of 64 lanes
// and grant each its next batch, over 1,000 repositories. With "behind" the lanes
// have a long backlog; else the entry in front, which is not counted, has just
// published what is granted.
// One op is one packet that is settled.
func BenchmarkGrantSettle(b *testing.B) {
	for _, batch := range []int{32, 4} {
		for _, behind := range []bool{false, true} {
			b.Run(fmt.Sprintf("batch=%d/behind=%v", batch, behind), func(b *testing.B) { benchmarkGrantSettle(b, batch, behind) })
		}
	}
}

type coreBench struct {
	b      *testing.B
	state  *memState
	m      *Machine
	eff    Effects
	e      EntryBuilder
	buf    []byte
	index  uint64
	pos    map[int]uint64
	tokens map[int]Token
	last   map[int]Seq
	body   []byte
}

func newCoreBench(b *testing.B) *coreBench {
	g := &coreBench{b: b, state: newMemState(), pos: map[int]uint64{}, tokens: map[int]Token{}, last: map[int]Seq{}, body: make([]byte, 64)}
	g.state.kind = true
	var err error
	if g.m, err = New(1, g.state, Options{}); err != nil {
		b.Fatal(err)
	}
	g.apply(false, settings(func(c *Config) { c.BacklogPackets = 1 << 40; c.BacklogBytes = 1 << 50 }, nil))
	g.apply(false, func(e *EntryBuilder) { e.AddBackfill(1, 10) })
	return g
}

func (g *coreBench) apply(timed bool, build func(e *EntryBuilder)) *Results {
	g.e.Reset(g.buf)
	build(&g.e)
	data := g.e.Bytes()
	g.buf = data
	g.index++
	envelope.Envelope{Version: 1, Term: 1, TimeMs: int64(1000 + g.index)}.Put(data)
	if timed {
		g.b.StartTimer()
	}
	g.eff.Reset()
	if err := g.m.Apply(g.index, 1, data, &g.eff); err != nil {
		g.b.Fatal(err)
	}
	g.b.StopTimer()
	g.state.write(&g.eff)
	return &g.eff.Results
}

func (g *coreBench) name(r int) []byte { return fmt.Appendf(nil, "acme/repository-%d", r) }

func (g *coreBench) publish(e *EntryBuilder, r, n int) {
	e.BeginRepo(g.name(r))
	for range n {
		g.pos[r]++
		e.AddPacket(&PublishItem{Raw: g.body, Rank: RankNormal, Producer: []byte("producer-0123456789"), Epoch: 1, Sequence: g.pos[r]})
	}
	e.EndRepo()
}

func benchmarkGrantSettle(b *testing.B, batch int, behind bool) {
	const repos, lanes = 1000, 64
	b.StopTimer()
	g := newCoreBench(b)
	feed := func(from, lanes, n int) {
		g.apply(false, func(e *EntryBuilder) {
			e.BeginPublish()
			for i := range lanes {
				g.publish(e, (from+i)%repos, n)
			}
			e.EndPublish()
		})
	}
	if behind {
		for range b.N/repos/8 + 2*batch/8 {
			feed(0, repos, 8)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	settled, from := 0, 0
	g.state.gets, g.state.scans = 0, 0
	ops := 0
	for settled < b.N {
		if !behind {
			feed(from, lanes, batch)
		}
		res := g.apply(true, func(e *EntryBuilder) {
			for i := range lanes {
				if r := (from + i) % repos; g.tokens[r] != 0 {
					e.AddSettle(&Settle{Group: 1, Repo: g.name(r), Token: g.tokens[r], Through: g.last[r]})
				}
			}
			for i := range lanes {
				e.AddGrant(&Grant{Group: 1, Repo: g.name((from + i) % repos), Session: []byte("worker-1"), MaxItems: uint32(batch), MaxBytes: 1 << 20, LeaseMs: 30000})
			}
		})
		ops += g.eff.Len()
		for i := range lanes {
			r, x := (from+i)%repos, &res.Grants[i]
			if x.Code != OK {
				if g.tokens[r] = 0; behind && settled+lanes*batch < b.N {
					b.Fatalf("grant: %+v", x)
				}
				continue
			}
			g.tokens[r], g.last[r] = x.Token, x.Items[len(x.Items)-1].Seq
			settled += len(x.Items)
		}
		from = (from + lanes) % repos
	}
	b.ReportMetric(float64(g.state.scans)/float64(settled), "scans/op")
	b.ReportMetric(float64(g.state.gets)/float64(settled), "gets/op")
	b.ReportMetric(float64(ops)/float64(settled), "writes/op")
}
