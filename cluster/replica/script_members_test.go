package replica

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

func (m *machine) conf() Conf {
	c, err := ParseConf(m.state.conf)
	if err != nil {
		panic(err)
	}
	return c
}

// join adds a machine with nothing.
func (s *script) join(d *datadriven.TestData) error {
	var id uint64
	d.ScanArgs(s.t, "id", &id)
	m := newMachine(storage.ReplicaID(id))
	s.nodes[m.id] = m
	s.ids = append(s.ids, m.id)
	return m.start(s.cache, true)
}

// conf proposes changes as raft's own tests write them: v2 l3 r1.
func (s *script) conf(d *datadriven.TestData, m *machine) error {
	changes, err := pb.ConfChangesFromString(d.Input)
	if err != nil {
		return err
	}
	cc := &pb.ConfChangeV2{Changes: changes}
	if d.HasArg("explicit") {
		cc.Transition = pb.ConfChangeTransitionJointExplicit.Enum()
	}
	return m.core.ProposeConf(m.core.rn.BasicStatus().GetTerm(), cc)
}

// carry stages a machine's state on another one and hands over the message.
func (s *script) carry(from, to *machine, m *pb.Message) error {
	staged := from.state
	to.staged = &staged
	m = proto.Clone(m).(*pb.Message)
	m.Snapshot = SnapshotOf(from.state.applied, from.conf())
	return to.core.StepSnapshot(m)
}

// snapshot sends the oldest snapshot that is wanted of id, or fails to.
func (s *script) snapshot(d *datadriven.TestData, out *strings.Builder) error {
	m := s.node(d)
	if len(m.snaps) == 0 {
		return errors.New("no snapshot is wanted")
	}
	x := m.snaps[0]
	m.snaps = m.snaps[1:]
	to := s.nodes[storage.ReplicaID(x.GetTo())]
	if d.HasArg("lost") {
		m.core.ReportSnapshot(to.id, false)
		return nil
	}
	err := s.carry(m, to, x)
	if !d.HasArg("silent") {
		m.core.ReportSnapshot(to.id, err == nil)
	}
	fmt.Fprintf(out, "snapshot of %d sent to %d\n", m.state.applied.Index, to.id)
	return err
}

// write does an append job.
func (m *machine) write(j *AppendJob) {
	if j.Install != nil {
		for _, step := range InstallSteps() {
			m.step(j, step)
		}
		return
	}
	m.disk.write(j)
}

func (m *machine) step(j *AppendJob, step InstallStep) {
	switch step {
	case InstallMark:
		m.disk.marker = j.Install.To
	case InstallState:
		m.state, m.staged = *m.staged, nil
	case InstallLog:
		m.disk.reset(j.Install.To, *j.HardState)
		m.disk.write(&AppendJob{Entries: j.Entries})
	}
}

// install does the first steps of the install that waits, and no more: a crash
// comes then.
func (s *script) install(d *datadriven.TestData, m *machine, out *strings.Builder) {
	var n int
	d.ScanArgs(s.t, "steps", &n)
	if len(m.appends) == 0 || m.appends[0].Install == nil {
		fmt.Fprintln(out, "nothing to install")
		return
	}
	for _, step := range InstallSteps()[:n] {
		m.step(m.appends[0], step)
		fmt.Fprintln(out, step)
	}
}
