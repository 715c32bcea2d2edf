package cluster

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// install puts a snapshot in the place of a group's state and log, step by step
// as the core says. It runs beside the loops: other groups are written and
// applied meanwhile, and what is to be written of this one waits in the log
// writer. Whoever brought the snapshot waits for the answer, and keeps the
// group from being deleted meanwhile.
type install struct {
	engine *Engine
	group  *group
	job    *replica.AppendJob
	in     *incoming
}

func (i *install) run() {
	for _, step := range replica.InstallSteps() {
		if err := i.step(step); err != nil {
			i.failed(step, err)
			return
		}
	}
}

// failed stops the replica: its state and its log may be of different ages,
// which a start sorts out.
func (i *install) failed(step replica.InstallStep, err error) {
	i.in.done <- err
	if errors.Is(err, ErrStopped) {
		return
	}
	err = fmt.Errorf("install snapshot, step %s: %w", step, err)
	if errors.Is(err, storage.ErrSync) {
		i.engine.fatal(err)
		return
	}
	i.group.fail(err)
	i.engine.writer.items.push(logItem{group: i.group, release: true})
}

func (i *install) step(step replica.InstallStep) error {
	switch step {
	case replica.InstallMark:
		return i.write(func(b *storage.LogBatch) {
			b.PutInstall(storage.Install{Group: i.group.id, Replica: i.group.replica, To: i.job.Install.To})
		})
	case replica.InstallState:
		return i.state()
	case replica.InstallLog:
		return i.write(func(b *storage.LogBatch) {
			b.Reset(i.group.id, i.job.Install.To, *i.job.HardState)
			b.Append(i.group.id, i.job.Entries)
		})
	case replica.InstallReload:
		return i.applier(i.reload)
	case replica.InstallAnswer:
		i.answer()
		return nil
	}
	return fmt.Errorf("step %d is unknown", step)
}

// write has the log writer sync what stage adds.
func (i *install) write(stage func(*storage.LogBatch)) error {
	return i.engine.await(func(done func()) { i.engine.writer.order(stage, done) })
}

// applier has the apply loop call f, once it has applied what waits.
func (i *install) applier(f func() error) error {
	var err error
	if stopped := i.engine.await(func(done func()) {
		i.engine.applier.call(func() { err = f(); done() })
	}); stopped != nil {
		return stopped
	}
	return err
}

func (i *install) state() error {
	g := i.group
	if err := i.applier(func() error { g.installing = true; return nil }); err != nil {
		return err
	}
	lower, upper := g.sm.KeyRange()
	if err := i.engine.cfg.State.Install(g.id, lower, upper); err != nil {
		return err
	}
	durable, release := i.engine.cfg.State.Durable()
	defer release()
	return i.check(durable)
}

// check holds a state against what was announced.
func (i *install) check(r storage.Reader) error {
	index, bytes, err := i.group.sm.AppliedIn(r)
	if err != nil {
		return err
	}
	conf, err := replica.ParseConf(bytes)
	if want := i.job.Install; err == nil && (index != want.To.Index || !conf.Equal(want.Conf)) {
		err = fmt.Errorf("the state is applied to %d under %v, announced was %d under %v: %w",
			index, conf, want.To.Index, want.Conf, ErrQuarantined)
	}
	return err
}

// reload runs in the apply loop.
func (i *install) reload() error {
	g, to := i.group, i.job.Install.To
	if err := guarded(g.sm.Installed); err != nil {
		return err
	}
	g.extent.restart()
	g.at, g.conf, g.installing = to, i.job.Install.Conf, false
	g.applied.Store(to.Index)
	i.engine.applier.shoot(g)
	g.confirms.release(to.Index)
	return nil
}

// answer tells the core, and lets the log writer go on with the group behind
// that.
func (i *install) answer() {
	i.engine.cfg.Logger.Debug("snapshot installed", "group", i.group.id, "replica", i.group.replica,
		"index", i.job.Install.To.Index, "replicas", i.job.Install.Conf)
	i.group.post(func(in *input) { in.appended = append(in.appended, i.job) })
	i.engine.writer.items.push(logItem{group: i.group, release: true})
	i.in.done <- nil
}

// apart says whether an item is not simply written: it begins or ends an
// install, which runs by itself, or its group has one under way.
func (w *logWriter) apart(it *logItem) bool {
	if it.release || it.job != nil && it.job.Install != nil {
		return true
	}
	if len(w.waiting) == 0 {
		return false
	}
	_, under := w.waiting[it.group]
	return under
}

// divert takes an item that is apart, and returns what comes instead of it.
func (w *logWriter) divert(it *logItem) (instead []logItem) {
	g := it.group
	waiting, under := w.waiting[g]
	switch {
	case it.release:
		delete(w.waiting, g)
		if g.failure.Load() == nil {
			instead = waiting
		}
	case under:
		w.waiting[g] = append(waiting, *it)
	case it.job != nil && it.job.Install != nil:
		w.waiting[g] = nil
		i := &install{engine: w.engine, group: g, job: it.job, in: it.incoming}
		w.engine.running.Go(i.run) // ends with the loops: it waits for nothing else
	}
	return instead
}
