package replica

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// script runs the commands of one file.
type script struct {
	t     *testing.T
	nodes map[storage.ReplicaID]*machine
	ids   []storage.ReplicaID
	net   []*pb.Message
	cache int64
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return // what go test -fuzz keeps here
		}
		// raft draws its election timeouts from crypto/rand.
		cryptotest.SetGlobalRandom(t, 1)
		s := &script{t: t, nodes: map[storage.ReplicaID]*machine{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			if err := s.run(d, &out); err != nil {
				fmt.Fprintf(&out, "error: %v\n", err)
			}
			if out.Len() == 0 {
				return "ok\n"
			}
			return out.String()
		})
	})
}

func (s *script) node(d *datadriven.TestData) *machine {
	var id uint64
	d.ScanArgs(s.t, "id", &id)
	return s.nodes[storage.ReplicaID(id)]
}

func (s *script) run(d *datadriven.TestData, out *strings.Builder) error {
	switch d.Cmd {
	case "nodes":
		return s.make(d)
	case "stabilize":
		ids := s.ids
		if arg, ok := d.Arg("only"); ok {
			ids = nil
			for _, v := range arg.Vals {
				ids = append(ids, s.ids[v[0]-'1'])
			}
		}
		s.stabilize(ids, d.HasArg("hold"))
		return nil
	case "deliver", "drop":
		return s.deliver(d, out)
	case "join":
		return s.join(d)
	case "snapshot":
		return s.snapshot(d, out)
	}
	m := s.node(d)
	switch d.Cmd {
	case "campaign":
		return m.core.Campaign()
	case "propose":
		return s.propose(d, m)
	case "conf":
		return s.conf(d, m)
	case "transfer":
		var to uint64
		d.ScanArgs(s.t, "to", &to)
		return m.core.TransferLeader(storage.ReplicaID(to))
	case "report":
		var to uint64
		d.ScanArgs(s.t, "to", &to)
		m.core.ReportSnapshot(storage.ReplicaID(to), !d.HasArg("lost"))
	case "install":
		s.install(d, m, out)
	case "members":
		fmt.Fprintf(out, "%v; state %v\n", m.core.Conf(), m.conf())
	case "progress":
		for _, p := range m.core.Progress() {
			fmt.Fprintf(out, "%d: match=%d learner=%t active=%t snapshot=%t\n", p.Replica, p.Match, p.Learner, p.Active, p.Snapshot)
		}
	case "ready":
		s.ready(m, out)
	case "write":
		s.write(d, m, out)
	case "apply":
		for range len(m.applies) {
			s.applyOne(m)
		}
		fmt.Fprintf(out, "applied to %d: %s\n", m.state.applied.Index, strings.Join(m.state.words, " "))
	case "read":
		m.reads++
		return m.core.ReadIndex(m.reads)
	case "misdirect":
		term := m.core.rn.BasicStatus().GetTerm()
		return m.core.Step(&pb.Message{
			Type: pb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(m.id) + 1), Term: &term, Commit: new(uint64(99)),
		})
	case "tick":
		var n int
		d.ScanArgs(s.t, "n", &n)
		before, times := m.core.rn.BasicStatus().RaftState, 1
		d.MaybeScanArgs(s.t, "times", &times)
		for range times {
			m.core.Tick(n)
		}
		fmt.Fprintf(out, "%s -> %s\n", before, m.core.rn.BasicStatus().RaftState)
	case "truncate":
		return s.truncate(d, m, out)
	case "crash":
		m.core = nil
		m.appends, m.applies = nil, nil
		s.net = slices.DeleteFunc(s.net, func(x *pb.Message) bool { return x.GetFrom() == uint64(m.id) || x.GetTo() == uint64(m.id) })
	case "lose":
		return s.lose(d, m)
	case "restart":
		return m.start(s.cache, false)
	case "log":
		s.dump(m, out)
	case "status":
		st := m.core.Status()
		opening := ""
		if st.Leads && !st.Opened {
			opening = " opening"
		}
		fmt.Fprintf(out, "term=%d leader=%d leads=%t%s commit=%d applied=%d log=[%d,%d] disk reads=%d\n",
			st.Term, st.Leader, st.Leads, opening, st.Commit, st.Applied, st.First, st.Last, m.disk.reads)
	case "entries":
		return s.entries(d, m, out)
	default:
		return fmt.Errorf("unknown command %q", d.Cmd)
	}
	return nil
}

func (s *script) make(d *datadriven.TestData) error {
	n := 1
	d.MaybeScanArgs(s.t, "n", &n)
	s.cache = 1 << 20
	d.MaybeScanArgs(s.t, "cache", &s.cache)
	for i := range n {
		s.ids = append(s.ids, storage.ReplicaID(i+1))
	}
	conf := Conf{Voters: slices.Clone(s.ids)}.Marshal()
	for _, id := range s.ids {
		s.nodes[id] = newMachine(id)
		s.nodes[id].state.conf, s.nodes[id].late = conf, d.HasArg("late")
		if err := s.nodes[id].start(s.cache, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) propose(d *datadriven.TestData, m *machine) error {
	term := m.core.rn.BasicStatus().GetTerm()
	d.MaybeScanArgs(s.t, "term", &term)
	for _, data := range strings.Fields(d.Input) {
		if err := m.core.Propose(term, []byte(data)); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) deliver(d *datadriven.TestData, out *strings.Builder) error {
	var from, to uint64
	d.MaybeScanArgs(s.t, "from", &from)
	d.MaybeScanArgs(s.t, "to", &to)
	var kept, taken []*pb.Message
	for _, x := range s.net {
		if (from == 0 || x.GetFrom() == from) && (to == 0 || x.GetTo() == to) {
			taken = append(taken, x)
		} else {
			kept = append(kept, x)
		}
	}
	s.net = kept
	var errs []error
	for _, x := range taken {
		if m := s.nodes[storage.ReplicaID(x.GetTo())]; d.Cmd == "deliver" && m.core != nil {
			errs = append(errs, m.core.Step(x))
		}
	}
	fmt.Fprintf(out, "%s %d\n", d.Cmd, len(taken))
	return errors.Join(errs...)
}

// stabilize does everything that the given replicas want done, until nothing is
// left. What they send to others is lost. With hold, snapshots are not sent.
func (s *script) stabilize(ids []storage.ReplicaID, hold bool) {
	for range 1000 {
		before := len(s.net)
		busy := false
		var sink strings.Builder
		for _, id := range ids {
			m := s.nodes[id]
			if m.core == nil {
				continue
			}
			s.ready(m, &sink)
			busy = busy || len(m.appends)+len(m.applies) > 0
			for _, j := range m.appends {
				m.write(j)
				m.core.Appended(j)
			}
			m.appends = nil
			var snaps []*pb.Message
			if !hold {
				snaps, m.snaps = m.snaps, nil
			}
			for _, x := range snaps {
				busy = true
				to := s.nodes[storage.ReplicaID(x.GetTo())]
				ok := to.core != nil && slices.Contains(ids, to.id) && s.carry(m, to, x) == nil
				m.core.ReportSnapshot(to.id, ok)
			}
			for len(m.applies) > 0 {
				s.applyOne(m)
			}
		}
		net := s.net
		s.net = nil
		for _, x := range net {
			if m := s.nodes[storage.ReplicaID(x.GetTo())]; m.core != nil && slices.Contains(ids, m.id) {
				_ = m.core.Step(x)
			}
		}
		if !busy && before+len(net) == 0 {
			return
		}
	}
	s.t.Fatal("does not come to rest")
}

func (s *script) truncate(d *datadriven.TestData, m *machine, out *strings.Builder) error {
	var to uint64
	d.ScanArgs(s.t, "to", &to)
	var floor uint64
	d.MaybeScanArgs(s.t, "floor", &floor)
	j, ok, err := m.core.Truncate(to, floor)
	if err != nil || !ok {
		fmt.Fprint(out, "nothing to truncate\n")
		return err
	}
	if !d.HasArg("later") {
		m.disk.truncate(j)
	}
	fmt.Fprintf(out, "truncated to %d:%d\n", j.To.Index, j.To.Term)
	return nil
}

// lose damages what is on disk.
func (s *script) lose(d *datadriven.TestData, m *machine) error {
	var from uint64
	d.MaybeScanArgs(s.t, "from", &from)
	for i := range m.disk.entries {
		if from != 0 && i >= from {
			delete(m.disk.entries, i)
		}
	}
	if d.HasArg("record") {
		m.disk.recorded, m.disk.truncated = false, storage.Position{}
	}
	if d.HasArg("state") {
		m.state = state{conf: m.state.conf}
	}
	if d.HasArg("hard") {
		m.disk.hard = storage.HardState{}
	}
	return nil
}

func (s *script) dump(m *machine, out *strings.Builder) {
	var ents []storage.Entry
	for _, e := range m.disk.entries {
		ents = append(ents, e)
	}
	slices.SortFunc(ents, func(a, b storage.Entry) int { return int(a.Index) - int(b.Index) })
	fmt.Fprintf(out, "truncated=%d:%d entries=%s hard=%d/%d/%d\n", m.disk.truncated.Index, m.disk.truncated.Term,
		list(ents), m.disk.hard.Term, m.disk.hard.Vote, m.disk.hard.Commit)
}

// entries reads what raft would read.
func (s *script) entries(d *datadriven.TestData, m *machine, out *strings.Builder) error {
	var lo, hi uint64
	d.ScanArgs(s.t, "lo", &lo)
	d.ScanArgs(s.t, "hi", &hi)
	ents, err := m.core.log.Entries(lo, hi, 1<<20)
	if err == nil {
		fmt.Fprintln(out, list(fromRaft(ents)))
	}
	return err
}
