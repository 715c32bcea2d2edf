package route

import (
	"github.com/waystation/waystation/actors"
)

// routedRelay implements api.Relay.
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
	kept := 0
	here := true // so far, all
	var places []uint64
	for i := range f.Packets {
		p := &f.Packets[i]
		index := f.First + uint64(i)
		if f.Indexes != nil {
			index = f.Indexes[i]
		}
		partition := r.partitionOf(p.Repo)
		to := &t.targets[partition]
		why := refusedLeaderless
		switch {
		case p.Bad != nil || len(p.Repo) == 0: // this node can say as well why it is refused
			why = nil
		case !to.ok:
		case len(to.former) > 0 && !to.clear(partition):
			if why = refusedMoving; to.link != nil {
				why = to.link.moving
			}
		case to.local:
			why = nil
		default:
			if why = to.link.put(p, partition, index, sink); why == nil {
				r.metrics.forwarded.Inc()
				if here {
					here, places = false, r.places(f, i)
				}
				continue
			}
		}
		if why != nil {
			if here {
				here, places = false, r.places(f, i)
			}
			refused = append(refused, actors.PublishResult{Index: index, Repo: p.Repo, ID: p.ID, Refusal: why})
			continue
		}
		if !here {
			f.Packets[kept] = *p
			places = append(places, index)
		}
		kept++
	}
	if here {
		r.relay.Offer(f, sink)
		return
	}
	r.finish(f, sink, kept, places, refused)
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
