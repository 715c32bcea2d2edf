package replica

import (
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/tracker"

	"github.com/waystation/waystation/storage"
)

// A leader that hears of a lost append sends one at a time to that replica, until
// it answers.
func TestUnreachableEndsPipelining(t *testing.T) {
	s := &script{t: t, nodes: map[storage.ReplicaID]*machine{}}
	if err := s.make(&datadriven.TestData{CmdArgs: []datadriven.CmdArg{{Key: "n", Vals: []string{"3"}}}}); err != nil {
		t.Fatal(err)
	}
	l := s.nodes[1]
	if err := l.core.Campaign(); err != nil {
		t.Fatal(err)
	}
	s.stabilize(s.ids, false)
	state := func(id uint64) tracker.StateType { return l.core.rn.Status().Progress[id].State }
	if state(2) != tracker.StateReplicate || state(3) != tracker.StateReplicate {
		t.Fatalf("before: %v, %v", state(2), state(3))
	}
	l.core.ReportUnreachable(2)
	l.core.ReportUnreachable(9) // nobody's
	if state(2) != tracker.StateProbe || state(3) != tracker.StateReplicate {
		t.Errorf("after: %v, %v", state(2), state(3))
	}
	if err := s.propose(&datadriven.TestData{Input: "a"}, l); err != nil {
		t.Fatal(err)
	}
	s.stabilize(s.ids, false)
	if state(2) != tracker.StateReplicate {
		t.Errorf("once it has answered: %v", state(2))
	}
}
