package sim

import (
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/cluster/meta"
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

func (l *life) send(g storage.GroupID, ms []*pb.Message) {
	w := l.w
	for _, m := range ms {
		to := l.resolve(g, storage.ReplicaID(m.GetTo()))
		if to == 0 || to == l.id {
			continue
		}
		l := w.link(l.id, to)
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
		w.deliver(o.a, o.b, ms)
	}
	return true
}

// resolve says on which machine a replica lives, as this node's map has it, or
// as was learned from what it sent; 0 if neither knows.
func (l *life) resolve(g storage.GroupID, id storage.ReplicaID) int {
	if n, ok := l.store.View().NodeOf(g, id); ok {
		return l.w.machineOf(n)
	}
	return l.routes[id]
}

// admits says whether a replica's messages may come from a machine.
func (l *life) admits(g storage.GroupID, id storage.ReplicaID, from int) bool {
	if at := l.resolve(g, id); at != 0 {
		return at == from
	}
	l.routes[id] = from
	return true
}

// refuses says whether a machine's data folder was removed from the cluster, as
// far as this node knows: it is told, and never talked to again.
func (l *life) refuses(from int) bool {
	n := l.w.nodes[from]
	if x, ok := l.store.View().Node(n.ident); !ok || x.State != meta.NodeRemoved {
		return false
	}
	if n.life != nil && n.life != l {
		n.life.refused = true
	}
	return true
}

// deliver hands messages to a node: those of a group at once, as a busy worker
// finds them.
func (w *world) deliver(from, to int, ms []packet) {
	life := w.nodes[to].life
	if life == nil {
		return
	}
	if life.refuses(from) {
		return
	}
	for i, p := range ms {
		life.hear(from)
		g := life.group(p.group)
		if g == nil {
			continue
		}
		m := &pb.Message{}
		w.must(proto.Unmarshal(p.data, m))
		if !life.admits(p.group, storage.ReplicaID(m.GetFrom()), from) {
			continue
		}
		w.note("%d<-%d %s %d %d", to, m.GetFrom(), m.GetType(), m.GetTerm(), m.GetIndex())
		g.wake()
		_ = g.core.Step(m) // a refused message is a lost one
		if i+1 == len(ms) || ms[i+1].group != p.group {
			g.drain()
		}
	}
}
