package replica

import (
	"encoding/hex"
	"errors"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// The bytes are in the state of every partition.
func TestConfIsKeptAsItWas(t *testing.T) {
	for want, c := range map[string]Conf{
		"":     {},
		"0801": SoleVoter(1),
		"0801080208071003180118022002200328" + "01": {
			Voters: []storage.ReplicaID{1, 2, 7}, Outgoing: []storage.ReplicaID{1, 2},
			Learners: []storage.ReplicaID{3}, LearnersNext: []storage.ReplicaID{2, 3}, AutoLeave: true,
		},
	} {
		if got := hex.EncodeToString(c.Marshal()); got != want {
			t.Errorf("%v is kept as %s, want %s", c, got, want)
		}
		b, err := hex.DecodeString(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseConf(b); err != nil || !got.Equal(c) {
			t.Errorf("%s is read as %v (%v), want %v", want, got, err, c)
		}
	}
	if _, err := ParseConf([]byte{0xff}); err == nil {
		t.Error("rubbish is a configuration")
	}
}

func TestNextConf(t *testing.T) {
	ids := func(in ...storage.ReplicaID) []storage.ReplicaID { return in }
	three := Conf{Voters: ids(1, 2, 3)}
	joint := Conf{Voters: ids(1), Outgoing: ids(1, 2, 3), LearnersNext: ids(3)}
	for name, c := range map[string]struct {
		from     Conf
		change   string
		explicit bool
		want     Conf
		refused  bool
	}{
		"a learner":             {from: SoleVoter(1), change: "l2", want: Conf{Voters: ids(1), Learners: ids(2)}},
		"one voter":             {from: SoleVoter(1), change: "v2", want: Conf{Voters: ids(1, 2)}},
		"two voters":            {from: SoleVoter(1), change: "v2 v3", want: Conf{Voters: ids(1, 2, 3), Outgoing: ids(1), AutoLeave: true}},
		"a voter to a learner":  {from: three, change: "r2 l3", explicit: true, want: joint.with(ids(1), ids(3))},
		"out of a joint one":    {from: joint, change: "", want: Conf{Voters: ids(1), Learners: ids(3)}},
		"joint in a joint one":  {from: joint, change: "v4 v5", refused: true},
		"simple in a joint one": {from: joint, change: "v4", refused: true},
		"out of none":           {from: three, change: "", refused: true},
		"nobody left":           {from: three, change: "r1 r2 r3", refused: true},
		"the last one":          {from: SoleVoter(1), change: "r1", refused: true},
	} {
		changes, err := pb.ConfChangesFromString(c.change)
		if err != nil {
			t.Fatal(err)
		}
		cc := &pb.ConfChangeV2{Changes: changes}
		if c.explicit {
			cc.Transition = pb.ConfChangeTransitionJointExplicit.Enum()
		}
		got, refused := c.from.Next(cc)
		if c.refused != errors.Is(refused, ErrConf) || refused == nil && !got.Equal(c.want) || refused != nil && !got.Equal(c.from) {
			t.Errorf("%s: %v, refused %v; want %v", name, got, refused, c.want)
		}
	}
	if _, refused := three.Next(&pb.ConfChangeV2{Transition: pb.ConfChangeTransition(9).Enum()}); !errors.Is(refused, ErrConf) {
		t.Errorf("an unknown transition: %v", refused)
	}
}

func (c Conf) with(voters, next []storage.ReplicaID) Conf {
	c.Voters, c.LearnersNext = voters, next
	return c
}
