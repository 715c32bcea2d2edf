package intake

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// numbered is an item that knows where it belongs.
type numbered struct{ flow, n int }

// pile is the naive model: what each flow still has to hand out.
type pile struct {
	b     Batcher[numbered]
	flows []*Flow[numbered]
	want  [][]Item[numbered]
	next  []int
}

func newPile(flows int) *pile {
	p := &pile{want: make([][]Item[numbered], flows), next: make([]int, flows)}
	for range flows {
		p.flows = append(p.flows, &Flow[numbered]{})
	}
	return p
}

func (p *pile) push(flow, size int) {
	v := numbered{flow, p.next[flow]}
	p.next[flow]++
	p.want[flow] = append(p.want[flow], Item[numbered]{v, size})
	p.b.Push(p.flows[flow], v, size)
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// fill fills one entry, holds it against the model, and answers the flows in it.
func (p *pile) fill(t failer, limit, count int) (taken []int) {
	t.Helper()
	sum, items := 0, 0
	bytes, n := p.b.Fill(limit, count, func(f *Flow[numbered], got []Item[numbered]) {
		flow := slices.Index(p.flows, f)
		if slices.Contains(taken, flow) {
			t.Fatalf("flow %d is in the entry twice", flow)
		}
		taken = append(taken, flow)
		if len(got) > len(p.want[flow]) || !slices.Equal(got, p.want[flow][:len(got)]) {
			t.Fatalf("flow %d handed out %v, next were %v", flow, got, p.want[flow])
		}
		p.want[flow] = p.want[flow][len(got):]
		for _, it := range got {
			sum += it.Size
		}
		items += len(got)
	})
	switch {
	case bytes != sum || n != items:
		t.Fatalf("fill says %d bytes of %d items, handed out %d of %d", bytes, n, sum, items)
	case bytes > limit && items > 1:
		t.Fatalf("%d items of %d bytes, at most %d", items, bytes, limit)
	case items > count:
		t.Fatalf("%d items, at most %d", items, count)
	case items == 0 && p.packets() > 0:
		t.Fatalf("an empty entry, and %d packets wait", p.packets())
	}
	if p.b.Packets() != p.packets() || p.b.Bytes() != p.bytes() {
		t.Fatalf("counts %d packets of %d bytes, has %d of %d", p.b.Packets(), p.b.Bytes(), p.packets(), p.bytes())
	}
	return taken
}

func (p *pile) packets() (n int) {
	for _, w := range p.want {
		n += len(w)
	}
	return n
}

func (p *pile) bytes() (n int) {
	for _, w := range p.want {
		for i := range w {
			n += w[i].Size
		}
	}
	return n
}

// Whatever is pushed, filled and drained: each flow's items come out once and in
// order, and no entry is over its limits.
func TestBatcherAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPile(rapid.IntRange(1, 12).Draw(t, "flows"))
		limit := rapid.IntRange(1, 8<<10).Draw(t, "limit")
		flow := rapid.IntRange(0, len(p.flows)-1)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				f := flow.Draw(t, "flow")
				for range rapid.IntRange(1, 90).Draw(t, "n") {
					p.push(f, rapid.IntRange(1, 3*limit/2+1).Draw(t, "size"))
				}
			},
			"fill": func(t *rapid.T) { p.fill(t, limit, rapid.IntRange(1, 100).Draw(t, "count")) },
			"drain": func(t *rapid.T) {
				f := flow.Draw(t, "flow")
				p.b.Drain(p.flows[f], func(got []Item[numbered]) {
					if !slices.Equal(got, p.want[f]) {
						t.Fatalf("drained %v, had %v", got, p.want[f])
					}
				})
				p.want[f] = nil
				if p.flows[f].Len() != 0 {
					t.Fatalf("%d items left after the drain", p.flows[f].Len())
				}
			},
		})
		for p.packets() > 0 {
			p.fill(t, limit, 100)
		}
	})
}

// A repository with little to say is in the next entry, however much a hot one
// has queued before it: P5.
func TestQuietFlowIsInTheNextEntry(t *testing.T) {
	for _, hot := range []int{1, 1 << 10, 64 << 10, 400 << 10} {
		p := newPile(21)
		for range 4 << 20 / hot {
			p.push(0, hot)
			if p.next[0] == 5000 {
				break
			}
		}
		p.fill(t, 512<<10, 4096) // the hot one has had its turn
		for quiet := 1; quiet <= 20; quiet++ {
			p.push(quiet, 1100)
		}
		taken := p.fill(t, 512<<10, 4096)
		if hot > 512<<10/21 { // its own big packet may fill the one entry it was saving for
			taken = append(taken, p.fill(t, 512<<10, 4096)...)
		}
		for quiet := 1; quiet <= 20; quiet++ {
			if !slices.Contains(taken, quiet) {
				t.Errorf("hot packets of %d bytes: flow %d is not in the next entry", hot, quiet)
			}
		}
	}
}

// Flows that always have something get the same bytes in the long run, whatever
// the sizes of their packets.
func TestFlowsShareEvenly(t *testing.T) {
	sizes := []int{100, 1000, 10_000, 100_000}
	p := newPile(len(sizes))
	var got [4]int
	for range 400 {
		for f, size := range sizes {
			for p.flows[f].Len()*size < 1<<20 {
				p.push(f, size)
			}
		}
		before := make([]int, len(sizes))
		for f := range sizes {
			before[f] = len(p.want[f])
		}
		p.fill(t, 128<<10, 1<<20)
		for f, size := range sizes {
			got[f] += (before[f] - len(p.want[f])) * size
		}
	}
	for f := range got {
		if diff := got[f] - got[0]; diff < -(256<<10) || diff > 256<<10 {
			t.Errorf("packets of %d bytes got %d bytes, those of %d got %d", sizes[f], got[f], sizes[0], got[0])
		}
	}
}

// A packet that is bigger than an entry goes alone, and no later than the second.
func TestBigPacketGoesAlone(t *testing.T) {
	p := newPile(3)
	p.push(0, 8<<20)
	p.push(1, 100)
	p.push(2, 100)
	var entries []string
	for p.packets() > 0 {
		entries = append(entries, fmt.Sprint(p.fill(t, 512<<10, 4096)))
	}
	if got := fmt.Sprint(entries); got != "[[1 2] [0]]" {
		t.Errorf("entries %v", got)
	}
}

func TestDrainAll(t *testing.T) {
	p := newPile(5)
	for i := range 100 {
		p.push(i%5, 10)
	}
	n := 0
	p.b.DrainAll(func(items []Item[numbered]) { n += len(items) })
	if n != 100 || p.b.Packets() != 0 || p.b.Bytes() != 0 {
		t.Errorf("%d items drained, %d of %d bytes left", n, p.b.Packets(), p.b.Bytes())
	}
	clear(p.want)
	p.push(3, 7) // it works on
	p.fill(t, 100, 10)
}
