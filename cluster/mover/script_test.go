package mover

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/waystation/waystation/cluster/meta"
)

// TestScripts runs the histories in testdata. A line is one command:
//
//	join b..          nodes join and are active
//	state b draining  a node's state
//	map a=voter* b=learner   the group's wish; the star is who should lead
//	replace b         the replica on b was quarantined
//	down b, up b      a node fails, or comes back
//	behind b 90       the replica on b lacks so many entries, until behind b 0
//	bytes             from now on the size of the log is known: 1 MiB an entry
//	avoid b           node b should not lead; avoid alone ends that
//	elect b           the replica on b leads
//	run               plan and do until nothing changes any more, 200 ms a look
//	plan              one look
//	leave             one look of a leader that is about to stop; in vain: nobody takes over
//	wait 2s           let time pass, with a look every 200 ms that does nothing
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		y := newToy(t.Fatalf)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for _, line := range strings.Split(d.Input, "\n") {
				y.command(t, &out, strings.Fields(line))
			}
			return out.String()
		})
	})
}

func (t *toy) command(tt *testing.T, out *strings.Builder, f []string) {
	tt.Helper()
	switch f[0] {
	case "join":
		for _, n := range f[1:] {
			t.must(&meta.JoinNode{Node: member(n)})
			t.must(&meta.SetNodeState{Node: nodeID(n), State: meta.NodeActive})
		}
	case "state":
		states := map[string]meta.NodeState{"active": meta.NodeActive, "draining": meta.NodeDraining, "removed": meta.NodeRemoved}
		t.must(&meta.SetNodeState{Node: nodeID(f[1]), State: states[f[2]]})
	case "map":
		t.must(&meta.SetMap{Generation: t.view.Cluster.Generation, Groups: []meta.GroupWish{t.wish(f[1:])}, Why: "script"})
	case "replace":
		id, _ := t.view.ReplicaOn(partition, nodeID(f[1]))
		if err := t.apply(&meta.ReplaceReplica{Group: partition, Replica: id, Why: "quarantined"}); err != nil {
			fmt.Fprintf(out, "refused: %v\n", err)
		}
	case "down", "up":
		t.down[nodeID(f[1])] = f[0] == "down"
	case "behind":
		id, _ := t.view.ReplicaOn(partition, nodeID(f[1]))
		n, err := strconv.ParseUint(f[2], 10, 64)
		if err != nil {
			tt.Fatal(err)
		}
		t.behind[id], t.match[id] = n, t.commit-n
	case "bytes":
		t.logBytes = true
	case "avoid":
		t.avoid = nil
		for _, n := range f[1:] {
			t.avoid = append(t.avoid, nodeID(n))
		}
	case "elect":
		id, _ := t.view.ReplicaOn(partition, nodeID(f[1]))
		t.elect(id)
	case "run":
		t.run(out)
	case "plan":
		t.look(out)
	case "leave":
		t.resign(out, len(f) > 1)
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			tt.Fatal(err)
		}
		for end := t.now + d; t.now < end; {
			t.now += 200 * time.Millisecond
			t.catchUp()
			in := t.input(t.view)
			t.mover.look(&in)
		}
	default:
		tt.Fatalf("command %q", f[0])
	}
}

func (t *toy) wish(parts []string) meta.GroupWish {
	g := meta.GroupWish{Group: partition}
	for _, p := range parts {
		name, role, _ := strings.Cut(p, "=")
		w := meta.ReplicaWish{Node: nodeID(name), Role: meta.Learner}
		if strings.HasPrefix(role, "voter") {
			w.Role, w.Leader = meta.Voter, strings.HasSuffix(role, "*")
		}
		w.Replica, _ = t.view.ReplicaOn(partition, w.Node)
		g.Replicas = append(g.Replicas, w)
	}
	return g
}

// look plans once and does the step.
func (t *toy) look(out *strings.Builder) Kind {
	t.now += 200 * time.Millisecond
	s := t.mover.Plan(t.input(t.view))
	switch s.Kind {
	case Report:
		err := t.apply(s.Report)
		t.mover.Done(t.term, map[bool]Outcome{true: Made, false: NotMade}[err == nil])
		fmt.Fprintf(out, "report: version %d, term %d, voters %v, learners %v", s.Report.Version, s.Report.Term, s.Report.Voters, s.Report.Learners)
		if p, _ := t.view.Placement(partition); p.Settled {
			out.WriteString(": settled")
		}
		if err != nil {
			fmt.Fprintf(out, ": %v", err)
		}
		out.WriteString("\n")
	case Change:
		t.propose(s.Change)
		t.mover.Done(t.term, Made)
		fmt.Fprintf(out, "change: %s\n  %s\n", s.Text, t.members())
		t.leave()
	case Transfer:
		fmt.Fprintf(out, "transfer: %s\n", s.Text)
		t.mover.Done(t.term, Made)
		if t.lives(s.To) {
			t.elect(s.To)
		}
	}
	t.catchUp()
	t.erase()
	return s.Kind
}

// resign has the leading node look for whom to hand over to.
func (t *toy) resign(out *strings.Builder, inVain bool) {
	t.now += 10 * time.Millisecond
	s := t.mover.Leave(t.input(t.view))
	fmt.Fprintf(out, "%s\n", strings.TrimSuffix(s.Kind.String()+": "+s.Text, ": "))
	for _, w := range s.Waits {
		fmt.Fprintf(out, "waits: %s\n", w)
	}
	if s.Kind == Transfer && t.lives(s.To) && !inVain {
		t.elect(s.To)
		fmt.Fprintf(out, "%s\n", t.members())
	}
}

// run looks until nothing has happened for as long as a Mover has patience,
// and says what it waits for in the end.
func (t *toy) run(out *strings.Builder) {
	for quiet, looks := 0, 0; quiet < 40; quiet++ {
		if looks++; looks > 500 {
			t.fatalf("no end:\n%s", out)
		}
		if k := t.look(out); k != None && k != Wait {
			quiet = 0
		}
	}
	for _, w := range t.mover.Plan(t.input(t.view)).Waits {
		fmt.Fprintf(out, "waits: %s\n", w)
	}
	fmt.Fprintf(out, "%s\n", t.members())
	for _, r := range t.view.GroupReplicas(partition) {
		if r.State != meta.ReplicaWanted {
			fmt.Fprintf(out, "replica %d@%c is %s\n", r.ID, r.Node[0], r.State)
		}
	}
}
