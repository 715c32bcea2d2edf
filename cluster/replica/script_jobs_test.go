package replica

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3"

	"github.com/waystation/waystation/storage"
)

// ready takes all jobs of a machine without doing them.
func (s *script) ready(m *machine, out *strings.Builder) {
	for {
		jobs, ok := m.core.Ready()
		if !ok {
			return
		}
		if jobs.Change != nil {
			fmt.Fprintf(out, "change term=%d leader=%d leads=%t\n", jobs.Change.Term, jobs.Change.Leader, jobs.Change.Leads)
		}
		if jobs.Append != nil {
			m.appends = append(m.appends, jobs.Append)
			fmt.Fprintf(out, "append %s\n", describe(jobs.Append))
		}
		if jobs.Apply != nil {
			m.applies = append(m.applies, jobs.Apply)
			fmt.Fprintf(out, "apply %s\n", list(jobs.Apply.Entries))
		}
		for _, x := range jobs.Send {
			fmt.Fprintf(out, "send %s\n", raft.DescribeMessage(x, nil))
		}
		s.net = append(s.net, jobs.Send...)
		for _, x := range jobs.Snapshots {
			m.snaps = append(m.snaps, x)
			fmt.Fprintf(out, "snapshot wanted by %d\n", x.GetTo())
		}
		for _, r := range jobs.Reads {
			fmt.Fprintf(out, "read %d at %d\n", r.ID, r.Index)
		}
	}
}

func describe(j *AppendJob) string {
	var b strings.Builder
	if j.Install != nil {
		fmt.Fprintf(&b, "install=%d:%d ", j.Install.To.Index, j.Install.To.Term)
	}
	fmt.Fprintf(&b, "entries=%s", list(j.Entries))
	if j.StaleFrom != 0 {
		fmt.Fprintf(&b, " stale=[%d,%d]", j.StaleFrom, j.StaleTo)
	}
	if j.HardState != nil {
		fmt.Fprintf(&b, " hard=%d/%d/%d", j.HardState.Term, j.HardState.Vote, j.HardState.Commit)
	}
	if j.Sync {
		b.WriteString(" sync")
	}
	return b.String()
}

func list(ents []storage.Entry) string {
	out := make([]string, len(ents))
	for i, e := range ents {
		out[i] = fmt.Sprintf("%d:%d:%s", e.Index, e.Term, e.Data)
	}
	return "[" + strings.Join(out, " ") + "]"
}

// write does the append jobs that wait, n of them or all. With noack the
// machine's core does not learn of it: a crash comes first.
func (s *script) write(d *datadriven.TestData, m *machine, out *strings.Builder) {
	n := len(m.appends)
	d.MaybeScanArgs(s.t, "n", &n)
	for range n {
		j := m.appends[0]
		m.appends = m.appends[1:]
		m.write(j)
		if !d.HasArg("noack") {
			m.core.Appended(j)
		}
	}
	fmt.Fprintf(out, "wrote %d\n", n)
}

func (s *script) applyOne(m *machine) {
	j := m.applies[0]
	m.applies = m.applies[1:]
	for i := range j.Entries {
		e := &j.Entries[i]
		if e.Index != max(m.state.applied.Index, InitialPosition().Index)+1 {
			s.t.Fatalf("replica %d applies %d after %d", m.id, e.Index, m.state.applied.Index)
		}
		if on, ok := m.disk.entries[e.Index]; !ok || on.Term != e.Term {
			s.t.Fatalf("replica %d applies entry %d, which is not in its log", m.id, e.Index)
		}
		m.state.applied = storage.Position{Index: e.Index, Term: e.Term}
		switch {
		case IsConfChange(e):
			cc, err := ConfChange(e)
			if err != nil {
				s.t.Fatal(err)
			}
			next, _ := m.conf().Next(cc)
			m.state.conf = next.Marshal()
		case len(e.Data) > 0:
			m.state.words = append(slices.Clip(m.state.words), string(e.Data))
		}
	}
	m.core.Applied(j)
}
