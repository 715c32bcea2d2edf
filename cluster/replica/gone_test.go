package replica

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// three makes a group of three voters, which the first one leads.
func three(t *testing.T) *script {
	t.Helper()
	s := &script{t: t, nodes: map[storage.ReplicaID]*machine{}}
	if err := s.make(&datadriven.TestData{CmdArgs: []datadriven.CmdArg{{Key: "n", Vals: []string{"3"}}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.nodes[1].core.Campaign(); err != nil {
		t.Fatal(err)
	}
	s.stabilize(s.ids, false)
	if lead := s.nodes[2].core.Status().Leader; lead != 1 {
		t.Fatalf("%d leads", lead)
	}
	return s
}

// pass has ticks pass for the two that are left, until one leads.
func pass(s *script, most int) (ticks int) {
	left := []storage.ReplicaID{2, 3}
	for ticks = 1; ticks <= most; ticks++ {
		for _, id := range left {
			s.nodes[id].core.Tick(1)
		}
		s.net = slices.DeleteFunc(s.net, func(m *pb.Message) bool { return m.GetTo() == 1 || m.GetFrom() == 1 })
		s.stabilize(left, false)
		for _, id := range left {
			if s.nodes[id].core.Status().Leads {
				return ticks
			}
		}
	}
	return ticks
}

// Those who were told that their leader's process is gone do not wait for an
// election timeout.
func TestGoneLeaderIsSucceededAtOnce(t *testing.T) {
	s := three(t)
	for _, id := range []storage.ReplicaID{2, 3} {
		s.nodes[id].core.Gone(9) // nobody's business
		s.nodes[id].core.Gone(1)
	}
	s.stabilize([]storage.ReplicaID{2, 3}, false)
	if n := pass(s, 3); n > 3 {
		t.Fatalf("no leader after %d ticks", n-1)
	}
}

// What a leader said before it ended may come in after it was said to be gone.
func TestGoneLeaderIsNotBelieved(t *testing.T) {
	s := three(t)
	for range 3 { // until it sends heartbeats
		s.nodes[1].core.Tick(1)
		s.ready(s.nodes[1], new(strings.Builder))
	}
	for _, id := range []storage.ReplicaID{2, 3} {
		s.nodes[id].core.Gone(1)
	}
	s.stabilize([]storage.ReplicaID{2, 3}, false)
	if lead := s.nodes[2].core.Status().Leader; lead != 1 {
		t.Fatalf("replica 2 follows %d: there were no last words", lead)
	}
	if n := pass(s, 4); n > 4 {
		t.Fatalf("no leader after %d ticks", n-1)
	}
}

// One that is told later than the other gives its vote when it asks again.
func TestGoneLeaderIsSucceededOnceBothKnow(t *testing.T) {
	s := three(t)
	s.nodes[2].core.Gone(1)
	if n := pass(s, 4); n <= 4 {
		t.Fatal("a voter that hears its leader gave its vote away")
	}
	s.nodes[3].core.Gone(1)
	if n := pass(s, 4); n > 4 {
		t.Fatalf("no leader after %d ticks more", n-1)
	}
}

// Whoever was told a mistake goes on under its leader.
func TestGoneByMistake(t *testing.T) {
	s := three(t)
	s.nodes[2].core.Gone(1)
	s.stabilize([]storage.ReplicaID{2}, false)
	if lead := s.nodes[2].core.Status().Leader; lead != 0 {
		t.Fatalf("replica 2 still follows %d", lead)
	}
	term := s.nodes[1].core.Status().Term
	for range 20 {
		for _, id := range s.ids {
			s.nodes[id].core.Tick(1)
		}
		s.stabilize(s.ids, false)
	}
	for _, id := range s.ids {
		if st := s.nodes[id].core.Status(); st.Leader != 1 || st.Term != term {
			t.Errorf("replica %d follows %d in term %d, not 1 in %d", id, st.Leader, st.Term, term)
		}
	}
}
