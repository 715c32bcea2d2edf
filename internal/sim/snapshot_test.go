package sim

import (
	"bytes"
	"errors"
	"io"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// wanted is a snapshot that raft asked for.
type wanted struct {
	group *group
	term  uint64
	m     *pb.Message
}

// parcel is a snapshot on its way.
type parcel struct {
	from *group
	to   int
	m    *pb.Message
	body []byte
}

// install is a snapshot that takes the place of a group's state.
type install struct {
	job     *replica.AppendJob
	step    int
	parcel  *parcel
	waiting []logItem // of the group: they are written afterwards
}

// photo takes the state for the oldest snapshot that is wanted: all that the state
// refers to is spilled, so that nothing else has to be sent.
func (l *life) photo() bool {
	if len(l.wanted) == 0 {
		return false
	}
	x := l.wanted[0]
	l.wanted = append([]wanted(nil), l.wanted[1:]...)
	g, w, to := x.group, l.w, storage.ReplicaID(x.m.GetTo())
	if l.group(g.id) != g {
		return false
	}
	at := l.resolve(g.id, to)
	if g.leads != x.term || at == 0 || g.install != nil {
		g.wake()
		g.core.ReportSnapshot(to, false)
		g.drain()
		return true
	}
	g.sm.spill(g, g.applied, 1<<30)
	state := l.states.Snapshot()
	defer state.Close()
	x.m.Snapshot = replica.SnapshotOf(g.at, g.conf)
	var body bytes.Buffer
	lower, upper := g.sm.keyRange()
	_, err := storage.ExportRange(&body, state, lower, upper)
	w.must(err)
	w.parcels = append(w.parcels, parcel{from: g, to: at, m: x.m, body: body.Bytes()})
	w.note("%d.%d sends a snapshot at %d to %d", l.id, g.id, g.at.Index, to)
	return true
}

// carry brings a parcel to its node, or loses it.
func (w *world) carry(at int, lost bool) bool {
	if at < 0 || at >= len(w.parcels) {
		return false
	}
	p := w.parcels[at]
	w.parcels = append(append([]parcel(nil), w.parcels[:at]...), w.parcels[at+1:]...)
	n := w.nodes[p.to]
	from := p.from.life.id
	if lost || w.cut[w.link(from, p.to)] || n.life == nil || n.life.refuses(from) || !n.life.receive(&p) {
		p.report(false)
	}
	return true
}

// report tells the sender what came of it, if it still runs.
func (p *parcel) report(ok bool) {
	g := p.from
	if g.life.w.nodes[g.life.id].life != g.life || g.life.group(g.id) != g {
		return
	}
	g.wake()
	g.core.ReportSnapshot(storage.ReplicaID(p.m.GetTo()), ok)
	g.drain()
}

// receive stages a snapshot and hands it to the core.
func (l *life) receive(p *parcel) bool {
	w := l.w
	m := proto.CloneOf(p.m)
	g := l.group(p.from.id)
	if g == nil || g.replica != storage.ReplicaID(m.GetTo()) || g.install != nil || g.incoming != nil {
		return false
	}
	if replica.InstallOf(m.GetSnapshot()).To.Index <= g.applied {
		g.wake()
		_ = g.core.StepSnapshot(m) // it says what is here
		g.drain()
		return false
	}
	stage, err := l.states.NewStage(g.id)
	w.must(err)
	r := storage.NewRangeReader(bytes.NewReader(p.body))
	for {
		key, value, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		w.must(err)
		w.must(stage.Add(key, value))
	}
	w.must(stage.Seal())
	g.incoming = p
	g.wake()
	_ = g.core.StepSnapshot(m)
	g.drain()
	if g.incoming != nil && !g.accepted {
		g.incoming = nil
		w.must(l.states.DropStage(g.id))
		return false
	}
	return true
}

// installStep does the next step of a group's install.
func (g *group) installStep() bool {
	x, l, w := g.install, g.life, g.w
	if x == nil {
		return false
	}
	to := x.job.Install.To
	step := replica.InstallSteps()[x.step]
	x.step++
	w.note("%d.%d installs %d: %s", l.id, g.id, to.Index, step)
	switch step {
	case replica.InstallMark:
		b := l.logs.NewBatch()
		b.PutInstall(storage.Install{Group: g.id, Replica: g.replica, To: to})
		l.commit(b)
	case replica.InstallState:
		l.applyAll(g)
		lower, upper := g.sm.keyRange()
		w.must(l.states.Install(g.id, lower, upper))
	case replica.InstallLog:
		b := l.logs.NewBatch()
		b.Reset(g.id, to, *x.job.HardState)
		b.Append(g.id, x.job.Entries)
		w.oracle.reset(g, to, *x.job.HardState, x.job.Entries)
		l.commit(b)
	case replica.InstallReload:
		w.must(g.sm.installed(l))
		if got, _, err := g.sm.found(); err != nil || got != to.Index {
			w.violate("node %d: the installed state of group %d is at %d, not at %d", l.id, g.id, got, to.Index)
		}
		g.applied, g.at, g.conf, g.cut = to.Index, to, x.job.Install.Conf, nil
		w.oracle.verify(g)
	case replica.InstallAnswer:
		g.install, g.incoming, g.accepted = nil, nil, false
		l.resume(x.waiting)
		g.wake()
		g.core.Appended(x.job)
		g.drain()
		if x.parcel != nil {
			x.parcel.report(true)
		}
	}
	return true
}

// resume has what waited for an install written next: before what came to the
// queue meanwhile, which continues it.
func (l *life) resume(waiting []logItem) {
	all := append([]logItem(nil), l.writes[:l.written]...)
	all = append(all, waiting...)
	l.writes = append(all, l.writes[l.written:]...)
}

// applyAll applies what waits of a group.
func (l *life) applyAll(g *group) {
	var rest []applyItem
	for _, it := range l.applies {
		if it.group != g {
			rest = append(rest, it)
			continue
		}
		for _, e := range it.job.Entries[it.done:] {
			g.applyOne(e)
		}
		g.wake()
		g.core.Applied(it.job)
	}
	l.applies = rest
	g.drain()
}
