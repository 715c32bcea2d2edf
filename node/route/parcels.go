package route

import (
	"sync"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// parcel is a packet for a link. Its slices alias the frame that it came in.
type parcel struct {
	raw, repo, id []byte
	partition     repository.PartitionID
	index         uint64 // in its own stream
}

// parcels are one frame's packets by the links that they go over, so that each
// link is locked, and its sender woken, once for all of them.
type parcels struct {
	links []*link
	lists [][]parcel
}

func (x *parcels) add(l *link, p parcel) {
	for i := range x.links {
		if x.links[i] == l {
			x.lists[i] = append(x.lists[i], p)
			return
		}
	}
	x.links = append(x.links, l)
	if n := len(x.links); n <= cap(x.lists) {
		x.lists = x.lists[:n] // with the memory of its list
	} else {
		x.lists = append(x.lists, nil)
	}
	i := len(x.links) - 1
	x.lists[i] = append(x.lists[i], p)
}

// send hands everything to the links, and appends what they do not take to refused.
func (x *parcels) send(r *Router, sink actors.Sink, refused []actors.PublishResult) []actors.PublishResult {
	for i, l := range x.links {
		before := len(refused)
		refused = l.put(x.lists[i], sink, refused)
		r.metrics.forwarded.Add(float64(len(x.lists[i]) - (len(refused) - before)))
	}
	return refused
}

// parcelPool keeps parcels for reuse. The zero value is ready.
type parcelPool struct{ pool sync.Pool }

func (q *parcelPool) get() *parcels {
	if x, ok := q.pool.Get().(*parcels); ok {
		return x
	}
	return new(parcels)
}

func (q *parcelPool) put(x *parcels) {
	for i := range x.lists {
		clear(x.lists[i]) // or they would keep the frame
		x.lists[i] = x.lists[i][:0]
	}
	clear(x.links)
	x.links, x.lists = x.links[:0], x.lists[:0]
	q.pool.Put(x)
}
