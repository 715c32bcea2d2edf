package storagetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/waystation/waystation/storage"
)

// runInstallCrash cuts the power between any two steps of installing a snapshot, and follows the
// rule for a start until a crash-free end: whatever was left, log and state fit together.
func runInstallCrash(t *testing.T, fresh func(t *testing.T) Disk) {
	for last := range InstallSteps() + 1 {
		t.Run(fmt.Sprintf("before step %d", last), func(t *testing.T) {
			for seed := range uint64(6) {
				d := fresh(t)
				n := NewInstaller(openLog(t, d), openState(t, d))
				must(t, n.Prepare())
				for step := range last {
					must(t, n.Step(step))
				}
				d.Crash(seed)
				n.Reopened(openLog(t, d), openState(t, d))
				must(t, n.Check())
				// The rule for a start may itself be cut short.
				must(t, n.Recover(int(seed%4)))
				d.Crash(seed + 100)
				n.Reopened(openLog(t, d), openState(t, d))
				must(t, n.Check())
				must(t, n.Recover(RecoverAll))
				must(t, n.Ended())
				must(t, errors.Join(n.Log.Close(), n.State.Close()))
			}
		})
	}
}

const (
	installGroup = 2
	otherGroup   = 3
	oldApplied   = 9
	oldLast      = 12
	snapshotAt   = 40
	installKeys  = 50
)

// Installer carries out the install of a snapshot as the engine does, step by step, and knows
// what may be found after each. Group 2 has entries up to 12, of which 9 are applied; the
// snapshot stands at 40. Group 3 is not touched, and must come to no harm.
type Installer struct {
	Log   *storage.Log
	State *storage.State

	stage     *storage.Stage
	marked    bool // the marker was asked for
	installed bool // the install was asked for
	certain   bool // and it ended
	reset     bool // the reset was asked for
}

// NewInstaller begins with an empty disk.
func NewInstaller(l *storage.Log, s *storage.State) *Installer { return &Installer{Log: l, State: s} }

// Reopened goes on with what a crash left.
func (n *Installer) Reopened(l *storage.Log, s *storage.State) { n.Log, n.State, n.stage = l, s, nil }

func groupRange(g storage.GroupID) (lower, upper []byte) {
	return fmt.Appendf(nil, "%d/", g), fmt.Appendf(nil, "%d0", g)
}

// Prepare writes what both groups have before.
func (n *Installer) Prepare() error {
	for _, g := range []storage.GroupID{installGroup, otherGroup} {
		b := n.Log.NewBatch()
		b.PutReplica(storage.ReplicaMeta{Group: g, Replica: 7, State: storage.ReplicaLive})
		b.Append(g, entries(1, oldLast, 1, 3000))
		b.SetHardState(g, storage.HardState{Term: 1, Vote: 7, Commit: oldApplied})
		if err := b.Commit(true); err != nil {
			return err
		}
		for index := uint64(1); index <= oldApplied; index++ {
			if err := n.apply(g, index); err != nil {
				return err
			}
		}
		if g == otherGroup {
			continue // its state is in memory alone
		}
		if err := n.State.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (n *Installer) apply(g storage.GroupID, index uint64) error {
	b := n.State.NewBatch()
	b.Set(effectKey(g, index), data(index, 2000))
	b.Set(appliedKey(g), binary.BigEndian.AppendUint64(nil, index))
	return b.Commit()
}

// InstallSteps is the number of steps.
func InstallSteps() int { return len(installSteps) }

var installSteps = []func(n *Installer) error{
	func(n *Installer) (err error) { n.stage, err = n.State.NewStage(installGroup); return err },
	(*Installer).fill,
	func(n *Installer) error { return n.stage.Seal() },
	(*Installer).mark,
	(*Installer).install,
	(*Installer).resetLog,
}

// Step carries out one step.
func (n *Installer) Step(step int) error { return installSteps[step](n) }

// fill stages what the state is at the snapshot: "2/applied" stands before "2/effect".
func (n *Installer) fill() error {
	err := n.stage.Add(appliedKey(installGroup), binary.BigEndian.AppendUint64(nil, snapshotAt))
	for i := range uint64(installKeys) {
		err = errors.Join(err, n.stage.Add(effectKey(installGroup, i+1), data(i+1, 2500)))
	}
	return err
}

func (n *Installer) mark() error {
	n.marked = true
	b := n.Log.NewBatch()
	b.PutInstall(marker())
	return b.Commit(true)
}

func marker() storage.Install {
	return storage.Install{Group: installGroup, Replica: 7, To: storage.Position{Index: snapshotAt, Term: 3}}
}

func (n *Installer) install() error {
	n.installed = true
	lower, upper := groupRange(installGroup)
	err := n.State.Install(installGroup, lower, upper)
	n.certain = err == nil
	return err
}

func (n *Installer) resetLog() error {
	n.reset = true
	b := n.Log.NewBatch()
	b.Reset(installGroup, marker().To, storage.HardState{Term: 3, Vote: 7, Commit: snapshotAt})
	return b.Commit(true)
}

// Check tells whether what is there is one of: the old state with the old log; a marker with the
// old log, and the old state or the new one; the new state with the new log.
func (n *Installer) Check() error {
	applied, err := n.appliedState()
	if err != nil {
		return err
	}
	marked, err := n.found()
	if err != nil {
		return err
	}
	first, last := n.Log.Bounds(installGroup)
	isNew := applied == snapshotAt
	switch oldLog := first == 1 && last == oldLast; {
	case !oldLog && (first != snapshotAt+1 || last != snapshotAt):
		return fmt.Errorf("the log holds %d to %d", first, last)
	case !oldLog && (!isNew || marked || !n.reset):
		return fmt.Errorf("the log was reset, applied %d, marker %v", applied, marked)
	case oldLog && marked && !n.marked:
		return errors.New("there is a marker that nobody wrote")
	case oldLog && isNew && !marked:
		return errors.New("a new state with an old log, and no marker")
	case isNew && !n.installed:
		return errors.New("a new state that nobody installed")
	case n.certain && !isNew:
		return errors.New("what was installed is gone")
	case oldLog:
		return n.checkOldLog()
	}
	return nil
}

func (n *Installer) checkOldLog() error {
	es, err := n.Log.Entries(installGroup, 1, oldLast+1, 1<<40)
	if err != nil {
		return err
	}
	if len(es) != oldLast {
		return fmt.Errorf("%d entries of %d", len(es), oldLast)
	}
	return nil
}

func (n *Installer) found() (marked bool, err error) {
	all, err := n.Log.Installs()
	if err != nil || len(all) == 0 {
		return false, err
	}
	if len(all) != 1 || all[0] != marker() {
		return false, fmt.Errorf("markers: %+v", all)
	}
	return true, nil
}

// appliedState returns the applied index of the durable state, of which every record must be the
// old or the new one.
func (n *Installer) appliedState() (uint64, error) {
	view, done := n.State.Durable()
	defer done()
	applied := uint64(0)
	switch v, err := view.Get(appliedKey(installGroup)); {
	case err == nil:
		applied = binary.BigEndian.Uint64(v)
	case !errors.Is(err, storage.ErrNotFound):
		return 0, err
	}
	size, want := 2000, applied
	if applied == snapshotAt {
		size, want = 2500, installKeys
	}
	var wrong error
	seen := uint64(0)
	err := view.Scan(effectKey(installGroup, 0), effectKey(installGroup, ^uint64(0)), func(k, v []byte) bool {
		seen++
		if string(k) != string(effectKey(installGroup, seen)) || string(v) != string(data(seen, size)) {
			wrong = fmt.Errorf("applied %d, record %d is %s with %d bytes", applied, seen, k, len(v))
		}
		return wrong == nil
	})
	if wrong == nil && seen != want {
		wrong = fmt.Errorf("applied %d, found %d records", applied, seen)
	}
	return applied, errors.Join(err, wrong)
}

// RecoverAll lets Recover end.
const RecoverAll = 1 << 20

// Recover does what a start does, or as many steps of it.
func (n *Installer) Recover(steps int) error {
	all, err := n.Log.Installs()
	if err != nil {
		return err
	}
	for _, i := range all {
		applied, err := n.appliedState()
		if err != nil {
			return err
		}
		b := n.Log.NewBatch()
		if applied >= i.To.Index {
			n.reset = true
			b.Reset(i.Group, i.To, storage.HardState{Term: 3, Vote: 7, Commit: i.To.Index})
		} else {
			b.DropInstall(i.Group)
		}
		if steps--; steps < 0 {
			b.Discard()
			return nil
		}
		if err := b.Commit(true); err != nil {
			return err
		}
	}
	if steps--; steps < 0 {
		return nil
	}
	return n.State.DropStage(installGroup)
}

// Ended tells whether log and state fit together, with nothing left to do, and whether both
// groups can go on.
func (n *Installer) Ended() error {
	marked, err := n.found()
	if err != nil || marked || n.State.Staged(installGroup) {
		return fmt.Errorf("left: marker %v, stage %v, %w", marked, n.State.Staged(installGroup), err)
	}
	if err := n.Check(); err != nil {
		return err
	}
	for _, g := range []storage.GroupID{installGroup, otherGroup} {
		if err := n.replay(g); err != nil {
			return err
		}
	}
	b := n.Log.NewBatch()
	_, last := n.Log.Bounds(installGroup)
	b.Append(installGroup, entries(last+1, last+2, 4, 100))
	if err := b.Commit(true); err != nil {
		return err
	}
	return n.State.Flush()
}

// replay applies what the log has and the state lacks, without a hole between them.
func (n *Installer) replay(g storage.GroupID) error {
	v, err := n.State.Get(appliedKey(g))
	applied := uint64(0)
	if err == nil {
		applied = binary.BigEndian.Uint64(v)
	} else if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	first, last := n.Log.Bounds(g)
	if applied+1 < first || applied > last {
		return fmt.Errorf("group %d: applied %d, the log holds %d to %d", g, applied, first, last)
	}
	for applied < last {
		if _, err := n.Log.Entries(g, applied+1, applied+2, 0); err != nil {
			return err
		}
		applied++
		if err := n.apply(g, applied); err != nil {
			return err
		}
	}
	return nil
}

// During turns what is known at the end of a step into what is known in the midst of it: what
// was asked for has not ended.
func (n *Installer) During(before Installer) { n.certain = before.certain }
