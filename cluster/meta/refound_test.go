package meta

import (
	"testing"

	"github.com/waystation/waystation/cluster/identity"
)

// records are what a runner's state holds.
func (r *runner) records() (out []Record) {
	for k, v := range r.stored {
		out = append(out, Record{Key: []byte(k), Value: v})
	}
	return out
}

// refounded is a runner on what Refound made.
func refounded(t *testing.T, old *runner, how Refounding) (*runner, Refounded) {
	t.Helper()
	made, err := Refound(old.records(), how)
	if err != nil {
		t.Fatal(err)
	}
	next := newRunner(t)
	next.forged = true
	v := &View{Cluster: made.Cluster}
	for i, x := range made.Records {
		if i > 0 && string(made.Records[i-1].Key) >= string(x.Key) {
			t.Errorf("record %x is not behind %x", x.Key, made.Records[i-1].Key)
		}
		next.stored[string(x.Key)] = x.Value
		var err error
		switch x.Key[2] {
		case tableNode:
			var n Node
			n, err = parseNode(x.Key, x.Value)
			v.Nodes = append(v.Nodes, n)
		case tableGroup:
			var g Group
			g, err = parseGroup(x.Key, x.Value)
			v.Groups = append(v.Groups, g)
		case tableOperation:
			var o Operation
			o, err = parseOperation(x.Key, x.Value)
			v.Operations = append(v.Operations, o)
		case tableProducer:
			next.epochs[string(x.Key[3:])], err = parseProducer(x.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	next.view = v
	return next, made
}

// TestRefoundNeverGivesOutAgain: what the records may lack, epochs, replicas and
// groups that were given out behind them, is not given out a second time; and the
// nodes that are given up never come back.
func TestRefoundNeverGivesOutAgain(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	r.must(&JoinNode{node(2, 1, 1)})
	r.must(&OpenProducer{"ci"})
	r.must(&EnsureGroup{"known", nil})
	self := r.view.Nodes[0]
	if self.ID == (identity.NodeID{2}) {
		self = r.view.Nodes[1]
	}
	lost := Group{ID: r.view.Cluster.NextGroup, Name: "lost", Version: 1, Settings: []byte("s")}
	same, made := refounded(t, r, Refounding{Node: self, Applied: 1 << 40, NowMs: 7, Groups: []Group{lost, r.view.Groups[0]}, Why: "recovered"})
	if made.Cluster.ID != r.view.Cluster.ID || len(made.Removed) != 1 || len(made.Replicas) != int(made.Cluster.Partitions)+1 {
		t.Errorf("made: %+v", made)
	}
	for _, id := range made.Replicas {
		if id < r.view.Cluster.NextReplica+jumpReplica {
			t.Errorf("replica %d, %d was the next", id, r.view.Cluster.NextReplica)
		}
	}
	if len(same.view.Groups) != 2 || len(same.view.Operations) != len(r.view.Operations)+1 {
		t.Errorf("groups %+v, operations %+v", same.view.Groups, same.view.Operations)
	}
	if g := same.must(&EnsureGroup{"new", nil}).Group; g.ID <= lost.ID+1 {
		t.Errorf("a new group has id %d", g.ID)
	}
	known, unknown := same.must(&OpenProducer{"ci"}).Epoch, same.must(&OpenProducer{"lost"}).Epoch
	if known <= jumpEpoch || unknown <= jumpEpoch {
		t.Errorf("epochs %d, %d", known, unknown)
	}
	if n := same.view.Cluster.Producers; n != r.view.Cluster.Producers+1 {
		t.Errorf("%d producers", n)
	}
	if err := same.apply(&StartNode{node(2, 2, 2)}).Err; err == nil {
		t.Error("a node that was given up came back")
	}
	other, made := refounded(t, same, Refounding{Cluster: ClusterID{9}, Node: self, Applied: 1 << 41, NowMs: 8})
	if made.Cluster.ID != (ClusterID{9}) || len(other.view.Nodes) != 1 || len(other.view.Operations) != 0 {
		t.Errorf("another cluster: %+v", other.view)
	}
}
