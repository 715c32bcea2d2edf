package sim

import (
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

// packet is a raft message on its way.
type packet struct {
	group storage.GroupID
	data  []byte
}

// maxLink bounds what waits between two nodes, as the transport's queues do.
const maxLink = 64

func (w *world) link(from, to int) int { return from*len(w.nodes) + to }

func (w *world) send(from int, g storage.GroupID, ms []*pb.Message) {
	for _, m := range ms {
		s := w.where[storage.ReplicaID(m.GetTo())]
		if s == nil {
			continue
		}
		l := w.link(from, s.node)
		if w.cut[l] || len(w.links[l]) >= maxLink {
			continue
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		w.must(err)
		w.links[l] = append(w.links[l], packet{g, data})
	}
}

func (w *world) netStep(o op) bool {
	if w.node(o.a) == nil || w.node(o.b) == nil {
		return false
	}
	l := w.link(o.a, o.b)
	q := w.links[l]
	switch o.kind {
	case opCut:
		w.cut[l], w.links[l] = true, nil
		return true
	case opMend:
		w.cut[l] = false
		return true
	}
	if len(q) == 0 {
		return false
	}
	at := min(o.c, len(q)-1)
	switch o.kind {
	case opDrop:
		w.links[l] = append(q[:at], q[at+1:]...)
	case opDouble:
		if len(q) >= maxLink {
			return false
		}
		w.links[l] = append(q, q[at])
	case opDeliver:
		n := min(max(int(o.n), 1), len(q)-at)
		ms := append([]packet(nil), q[at:at+n]...)
		w.links[l] = append(q[:at], q[at+n:]...)
		w.deliver(o.b, ms)
	}
	return true
}

// deliver hands messages to a node: those of a group at once, as a busy worker
// finds them.
func (w *world) deliver(to int, ms []packet) {
	life := w.nodes[to].life
	if life == nil {
		return
	}
	for i, p := range ms {
		g := life.group(p.group)
		if g == nil {
			continue
		}
		m := &pb.Message{}
		w.must(proto.Unmarshal(p.data, m))
		if s := w.where[storage.ReplicaID(m.GetFrom())]; s != nil {
			life.hear(s.node)
		}
		w.note("%d<-%d %s %d %d", to, m.GetFrom(), m.GetType(), m.GetTerm(), m.GetIndex())
		_ = g.core.Step(m) // a refused message is a lost one
		if i+1 == len(ms) || ms[i+1].group != p.group {
			g.drain()
		}
	}
}
