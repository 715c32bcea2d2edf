package intake

// Item is what a flow holds.
type Item[T any] struct {
	Value T
	Size  int // bytes
}

// Flow is the queue of one repository. The zero value is ready. A Flow belongs to
// one Batcher as long as it holds items.
type Flow[T any] struct {
	items   []Item[T]
	head    int // items before it are gone
	picked  int // items from head on that the entry being filled takes
	deficit int // bytes that the flow may still take
	turn    bool
	granted int // what the turn added to deficit
	next    *Flow[T]
}

// Len is the number of queued items.
func (f *Flow[T]) Len() int { return len(f.items) - f.head }

// keepItems is what an emptied flow keeps room for: there may be very many flows.
const keepItems = 64

// pop forgets the picked items, and keeps only a modest amount of memory.
func (f *Flow[T]) pop() {
	clear(f.items[f.head : f.head+f.picked]) // they hold pointers
	f.head, f.picked = f.head+f.picked, 0
	switch {
	case f.head == len(f.items) && cap(f.items) > keepItems:
		f.items, f.head = nil, 0
	case f.head == len(f.items):
		f.items, f.head = f.items[:0], 0
	case f.head > len(f.items)/2 && f.head > keepItems:
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
}

// Batcher fills entries fairly over flows, by deficit round-robin: each flow gets
// the same share of bytes in each round, whatever the sizes of its items, and
// saves what it could not use for a big one. The zero value is ready.
type Batcher[T any] struct {
	first, last *Flow[T] // the flows that have items, in the order of service
	flows       int
	packets     int
	bytes       int
	touched     []*Flow[T]
}

// Packets is the number of queued items, in all flows.
func (b *Batcher[T]) Packets() int { return b.packets }

// Bytes is the size of the queued items, in all flows.
func (b *Batcher[T]) Bytes() int { return b.bytes }

// Push queues an item of size bytes behind the others of its flow.
func (b *Batcher[T]) Push(f *Flow[T], v T, size int) {
	if f.Len() == 0 {
		b.flows++
		b.append(f)
	}
	f.items = append(f.items, Item[T]{v, size})
	b.packets++
	b.bytes += size
}

func (b *Batcher[T]) append(f *Flow[T]) {
	f.next = nil
	if b.last == nil {
		b.first = f
	} else {
		b.last.next = f
	}
	b.last = f
}

func (b *Batcher[T]) shift() *Flow[T] {
	f := b.first
	b.first, f.next = f.next, nil
	if b.first == nil {
		b.last = nil
	}
	return f
}

// minQuantum is the least share of a round: below it, rounds cost more than the
// fairness within one entry is worth.
const minQuantum = 1 << 10

// Fill hands out the next entry's items: at most count, and at most limit bytes
// unless the first one alone is bigger. The items of a flow come in one call of
// take, oldest first; take must neither keep the slice nor use the Batcher. Fill
// answers what it handed out.
func (b *Batcher[T]) Fill(limit, count int, take func(f *Flow[T], items []Item[T])) (bytes, items int) {
	bytes, items = b.pick(limit, count)
	b.packets -= items
	b.bytes -= bytes
	for i, f := range b.touched {
		take(f, f.items[f.head:f.head+f.picked])
		f.pop()
		b.touched[i] = nil
	}
	b.touched = b.touched[:0]
	return bytes, items
}

// pick goes round the flows and marks what the entry takes of each. Nothing is
// handed out before the end, so that a flow which comes to its turn twice is
// still one group of the entry: a repository's packets of an entry are one record.
func (b *Batcher[T]) pick(limit, count int) (bytes, items int) {
	quantum := max(minQuantum, limit/max(b.flows, 1))
	if f := b.first; f != nil && f.turn && f.granted > quantum {
		// The last entry ended in its turn. What it got for that was its share among the
		// flows of that time: among more of them it could be a whole entry.
		f.deficit = max(f.deficit-(f.granted-quantum), 0)
		f.granted = quantum
	}
	for b.first != nil {
		f := b.first
		if !f.turn {
			f.turn, f.granted = true, quantum
			f.deficit += quantum
		}
		for f.picked < f.Len() {
			size := f.items[f.head+f.picked].Size
			if size > f.deficit {
				break
			}
			if items == count || items > 0 && bytes+size > limit {
				return bytes, items // it keeps its turn for the next entry
			}
			if f.picked == 0 {
				b.touched = append(b.touched, f)
			}
			f.picked++
			f.deficit -= size
			bytes, items = bytes+size, items+1
		}
		f.turn = false
		b.shift()
		if f.picked < f.Len() {
			b.append(f)
			continue
		}
		f.deficit = 0
		b.flows--
	}
	return bytes, items
}

// Drain hands out everything that is queued in f, and leaves f empty.
func (b *Batcher[T]) Drain(f *Flow[T], take func(items []Item[T])) {
	if f.Len() == 0 {
		return
	}
	var before *Flow[T]
	for g := b.first; g != f; g = g.next {
		before = g
	}
	if before == nil {
		b.shift()
	} else {
		before.next = f.next
		if b.last == f {
			b.last = before
		}
		f.next = nil
	}
	b.flows--
	b.empty(f, take)
}

// DrainAll hands out everything that is queued, flow by flow.
func (b *Batcher[T]) DrainAll(take func(items []Item[T])) {
	for b.first != nil {
		b.flows--
		b.empty(b.shift(), take)
	}
}

func (b *Batcher[T]) empty(f *Flow[T], take func(items []Item[T])) {
	rest := f.items[f.head:]
	b.packets -= len(rest)
	for i := range rest {
		b.bytes -= rest[i].Size
	}
	take(rest)
	f.picked = len(rest)
	f.pop()
	f.deficit, f.turn = 0, false
}
