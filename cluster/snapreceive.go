package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// ErrBusy says that another snapshot is being received: try again later.
var ErrBusy = errors.New("another snapshot is being received")

// ErrSnapshot says that a snapshot was not taken, because this replica needs
// none or its message is out of date.
var ErrSnapshot = replica.ErrSnapshot

// incoming is a snapshot all of whose data is staged.
type incoming struct {
	m    *pb.Message
	done chan error // has room for the one answer
}

// ReceiveSnapshot takes a snapshot of group g: m as another engine gave it to
// its transport, and what that one's body wrote. It blocks until the snapshot is
// installed, and then returns nil, or until it is clear that it will not be.
// Applying goes on while the data comes in. One is received at a time, others
// wait a moment and are refused with ErrBusy.
func (e *Engine) ReceiveSnapshot(g storage.GroupID, m *pb.Message, body io.Reader) error {
	gr := e.group(g)
	if gr == nil || gr.replica != storage.ReplicaID(m.GetTo()) {
		return fmt.Errorf("receive snapshot of group %d: %w", g, ErrNoGroup)
	}
	if err := e.receive(gr, m, body); err != nil {
		return fmt.Errorf("receive snapshot of group %d: %w", g, err)
	}
	e.metrics.snapshotsReceived.Inc()
	return nil
}

func (e *Engine) receive(gr *group, m *pb.Message, body io.Reader) error {
	if err := e.takeTurn(); err != nil {
		return err
	}
	defer func() { <-e.receiving }()
	if !gr.enter() {
		return gr.stopped()
	}
	defer gr.busy.Done()
	if m.GetType() != pb.MsgSnap {
		return ErrSnapshot
	}
	// One that is not newer is not staged, and shown to the core all the same: it
	// tells the leader what is here. A leader that never heard so would send it again
	// and again, as long as nothing is proposed.
	if replica.InstallOf(m.GetSnapshot()).To.Index > gr.applied.Load() {
		if err := e.stage(gr, body); err != nil {
			return errors.Join(err, e.unstage(gr))
		}
	}
	in := &incoming{m: m, done: make(chan error, 1)}
	if !gr.post(func(i *input) { i.snapshot = in }) {
		return errors.Join(gr.stopped(), e.unstage(gr))
	}
	select {
	case <-e.quit:
		return ErrStopped // the next start sees what became of it
	case err := <-in.done:
		if errors.Is(err, ErrSnapshot) {
			err = errors.Join(err, e.unstage(gr))
		}
		return err
	}
}

// takeTurn waits a moment for the one place that there is.
func (e *Engine) takeTurn() error {
	wait := time.NewTimer(e.cfg.SnapshotWait)
	defer wait.Stop()
	select {
	case e.receiving <- struct{}{}:
		return nil
	case <-e.quit:
		return ErrStopped
	case <-wait.C:
		return ErrBusy
	}
}

// enter says that somebody works on the group's stores, unless it is over.
func (g *group) enter() bool {
	g.door.Lock()
	defer g.door.Unlock()
	if g.shut || g.failure.Load() != nil {
		return false
	}
	g.busy.Add(1)
	return true
}

// leave waits until nobody does any more.
func (g *group) leave() {
	g.door.Lock()
	g.shut = true
	g.door.Unlock()
	g.busy.Wait()
}

// roomStep is how much is staged between two looks at the free space.
const roomStep = 32 << 20

// stage writes a snapshot's data beside the state.
func (e *Engine) stage(gr *group, body io.Reader) error {
	lower, upper := gr.sm.KeyRange()
	if err := e.room(); err != nil {
		return err
	}
	stage, err := e.cfg.State.NewStage(gr.id)
	if err != nil {
		return err
	}
	r := storage.NewRangeReader(body)
	checked := uint64(0)
	for {
		key, value, err := r.Next()
		if errors.Is(err, io.EOF) {
			if err = ended(body); err == nil {
				return stage.Seal()
			}
		}
		if err == nil && (bytes.Compare(key, lower) < 0 || bytes.Compare(key, upper) >= 0) {
			err = fmt.Errorf("key %x is another group's", key)
		}
		if err == nil {
			err = stage.Add(key, value)
		}
		if err == nil && stage.Bytes()-checked >= roomStep {
			checked = stage.Bytes()
			err = e.room()
		}
		if err == nil && gr.failure.Load() != nil {
			err = gr.stopped()
		}
		if err != nil {
			return errors.Join(err, stage.Discard())
		}
	}
}

// ended sees to it that nothing comes any more: the transport may find only now
// that not all of it came.
func ended(body io.Reader) error {
	n, err := io.Copy(io.Discard, body)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d bytes behind the end", n)
	}
	return err
}

// room says whether more may be staged.
func (e *Engine) room() error {
	select {
	case <-e.quit:
		return ErrStopped
	default:
	}
	if e.cfg.Room == nil {
		return nil
	}
	return e.cfg.Room(roomStep)
}

func (e *Engine) unstage(gr *group) error { return e.cfg.State.DropStage(gr.id) }

// snapshot gives raft a snapshot's message. What comes of it is seen in what the
// core wants done next.
func (w *worker) snapshot(g *group, in *incoming) {
	g.incoming = in
	if err := g.core.StepSnapshot(in.m); err != nil {
		w.engine.cfg.Logger.Debug("snapshot refused", "group", g.id, "err", err)
	}
}

// declined answers a snapshot of which nothing came.
func (g *group) declined() {
	if in := g.incoming; in != nil {
		g.incoming = nil
		in.done <- ErrSnapshot
	}
}
