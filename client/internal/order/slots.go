package order

// maxRing bounds the ring of Slots; what is older lies in a map.
const maxRing = 1 << 16

// Slots remembers what was sent under which ordinal of a stream, until it is
// answered. Answers come in any order between repositories: a ring serves those
// that come soon, and one packet whose answer is very late does not make it grow.
// The zero value is ready. It is not safe for concurrent use.
type Slots[T any] struct {
	ring       []slot[T]
	head, tail uint64
	late       map[uint64]T
	n          int
}

type slot[T any] struct {
	v   T
	set bool
}

// Len returns the number of ordinals without an answer.
func (s *Slots[T]) Len() int { return s.n }

// Put remembers v under the next ordinal.
func (s *Slots[T]) Put(v T) (ordinal uint64) {
	if int(s.tail-s.head) == len(s.ring) {
		s.room()
	}
	ordinal = s.tail
	s.tail++
	s.ring[ordinal&uint64(len(s.ring)-1)] = slot[T]{v: v, set: true}
	s.n++
	return ordinal
}

// Take returns what was sent under ordinal, once.
func (s *Slots[T]) Take(ordinal uint64) (v T, ok bool) {
	if ordinal < s.head {
		if v, ok = s.late[ordinal]; ok {
			delete(s.late, ordinal)
			s.n--
		}
		return v, ok
	}
	if ordinal >= s.tail {
		return v, false
	}
	p := &s.ring[ordinal&uint64(len(s.ring)-1)]
	v, ok = p.v, p.set
	if ok {
		*p = slot[T]{}
		s.n--
	}
	for s.head < s.tail && !s.ring[s.head&uint64(len(s.ring)-1)].set {
		s.head++
	}
	return v, ok
}

// Each visits what has no answer, in no order.
func (s *Slots[T]) Each(visit func(T)) {
	for _, v := range s.late {
		visit(v)
	}
	for o := s.head; o < s.tail; o++ {
		if p := &s.ring[o&uint64(len(s.ring)-1)]; p.set {
			visit(p.v)
		}
	}
}

// Reset begins a new stream.
func (s *Slots[T]) Reset() { *s = Slots[T]{} }

func (s *Slots[T]) room() {
	if len(s.ring) < maxRing {
		ring := make([]slot[T], max(256, 2*len(s.ring)))
		for o := s.head; o < s.tail; o++ {
			ring[o&uint64(len(ring)-1)] = s.ring[o&uint64(len(s.ring)-1)]
		}
		s.ring = ring
		return
	}
	if s.late == nil {
		s.late = make(map[uint64]T)
	}
	p := &s.ring[s.head&uint64(len(s.ring)-1)]
	if p.set {
		s.late[s.head] = p.v
	}
	*p = slot[T]{}
	s.head++
	for s.head < s.tail && !s.ring[s.head&uint64(len(s.ring)-1)].set {
		s.head++
	}
}
