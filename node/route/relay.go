package route

import (
	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// routedRelay implements api.Routed.
type routedRelay struct{ r *Router }

// Parked says whether the repository's actor is stopped on this node.
func (x routedRelay) Parked(repo string) bool { return x.r.relay.Parked(repo) }

// Offer sends each packet to its partition's leader. While this node leads all
// partitions, frames pass through as they are.
func (x routedRelay) Offer(f *actors.Frame, sink actors.Sink) {
	t := x.r.table.Load()
	if t.here {
		x.r.relay.Offer(f, sink)
		return
	}
	x.r.split(t, f, sink)
}

// split forwards the packets of a frame that are led elsewhere, answers those that
// go nowhere, and leaves the others to this node's own relay.
func (r *Router) split(t *table, f *actors.Frame, sink actors.Sink) {
	var refused []actors.PublishResult
	var away *parcels
	kept := 0
	here := true // so far, all
	var places []uint64
	for i := range f.Packets {
		p := &f.Packets[i]
		index := f.First + uint64(i)
		if f.Indexes != nil {
			index = f.Indexes[i]
		}
		link, partition, why := r.goal(t, p)
		if link == nil && why == nil {
			if !here {
				f.Packets[kept] = *p
				places = append(places, index)
			}
			kept++
			continue
		}
		if here {
			here, places = false, r.places(f, i)
		}
		if why != nil {
			refused = append(refused, actors.PublishResult{Index: index, Repo: p.Repo, ID: p.ID, Refusal: why})
			continue
		}
		if away == nil {
			away = r.parcels.get()
		}
		away.add(link, parcel{raw: p.Raw, repo: p.Repo, id: p.ID, partition: partition, index: index})
	}
	if here {
		r.relay.Offer(f, sink)
		return
	}
	if away != nil {
		refused = away.send(r, sink, refused)
		r.parcels.put(away)
	}
	r.finish(f, sink, kept, places, refused)
}

// goal is where a packet goes: over a link, or nowhere, for a reason; neither is
// given for this node's own relay.
func (r *Router) goal(t *table, p *wire.Packet) (*link, repository.PartitionID, *actors.Refusal) {
	if p.Bad != nil || len(p.Repo) == 0 { // this node can say as well why it is refused
		return nil, 0, nil //nolint:nilerr // the relay says what is wrong with the packet
	}
	partition := r.partitionOf(p.Repo)
	switch to := &t.targets[partition]; {
	case !to.ok:
		return nil, partition, refusedLeaderless
	case len(to.former) > 0 && !to.clear(partition):
		if to.link != nil {
			return nil, partition, to.link.moving
		}
		return nil, partition, refusedMoving
	default:
		return to.link, partition, nil
	}
}

// places is the indexes of the first n packets of a frame.
func (r *Router) places(f *actors.Frame, n int) []uint64 {
	out := make([]uint64, n, len(f.Packets))
	for i := range out {
		out[i] = f.First + uint64(i)
		if f.Indexes != nil {
			out[i] = f.Indexes[i]
		}
	}
	return out
}

// finish answers the refused packets, whose names are in the frame, and then lets
// go of the frame, or hands on what is left of it.
func (r *Router) finish(f *actors.Frame, sink actors.Sink, kept int, places []uint64, refused []actors.PublishResult) {
	if len(refused) > 0 {
		r.metrics.refused.Add(float64(len(refused)))
		sink.Results(refused)
	}
	if kept > 0 {
		f.Packets, f.Indexes = f.Packets[:kept], places
		r.relay.Offer(f, sink)
		return
	}
	if f.Release != nil {
		f.Release()
	}
}
