package order

// queue is a ring of entries that are named by keys, which only grow.
type queue[E any] struct {
	buf        []E
	head, tail uint64 // keys: head is the oldest, tail the next to be given
}

const keepCap = 16 // an empty lane keeps no more than that

func (q *queue[E]) len() int { return int(q.tail - q.head) }

func (q *queue[E]) at(key uint64) *E { return &q.buf[key&uint64(len(q.buf)-1)] }

// find is at, or nil for a key that is not there.
func (q *queue[E]) find(key uint64) *E {
	if key < q.head || key >= q.tail {
		return nil
	}
	return q.at(key)
}

func (q *queue[E]) push(e E) (key uint64) {
	if q.len() == len(q.buf) {
		q.grow()
	}
	key = q.tail
	q.tail++
	*q.at(key) = e
	return key
}

func (q *queue[E]) pop() {
	var zero E
	*q.at(q.head) = zero
	q.head++
	if q.len() == 0 && len(q.buf) > keepCap {
		q.buf = nil
	}
}

func (q *queue[E]) grow() {
	next := queue[E]{buf: make([]E, max(4, 2*len(q.buf))), head: q.head, tail: q.tail}
	for key := q.head; key < q.tail; key++ {
		*next.at(key) = *q.at(key)
	}
	*q = next
}
