package route

import (
	"bytes"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// routes is the table as clients are told it, until changed is closed.
type routes struct {
	message []byte // a PublishStreamResponse
	changed chan struct{}
}

// tell keeps what clients are told in step with the table. The caller holds r.mu.
func (r *Router) tell(t *table) {
	message, err := proto.MarshalOptions{Deterministic: true}.Marshal(&waystationv1.PublishStreamResponse{Routes: r.describe(t)})
	old := r.routes.Load()
	if err != nil || old != nil && bytes.Equal(old.message, message) {
		return // an error: an id or address that is not UTF-8; clients go on without
	}
	r.routes.Store(&routes{message: message, changed: make(chan struct{})})
	if old != nil {
		close(old.changed)
	}
}

func (r *Router) describe(t *table) *waystationv1.Routes {
	out := &waystationv1.Routes{ClusterId: r.cfg.ClusterID, NodeId: t.self.ID, HashSeed: r.cfg.HashSeed}
	nodes := maps.Clone(t.nodes)
	nodes[t.self.ID] = t.self
	places := map[string]uint32{}
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		out.Nodes = append(out.Nodes, &waystationv1.RouteNode{Id: id, Grpc: nodes[id].GRPCAddr})
		places[id] = uint32(len(out.Nodes))
	}
	for i := range t.targets {
		p := new(waystationv1.RoutePartition)
		if to := &t.targets[i]; to.ok {
			p.Leader, p.Term = places[to.node], to.term
		}
		out.Partitions = append(out.Partitions, p)
	}
	return out
}

// Routes implements api.Routed.
func (x routedRelay) Routes() (message []byte, changed <-chan struct{}) {
	if t := x.r.routes.Load(); t != nil {
		return t.message, t.changed
	}
	return nil, nil
}
