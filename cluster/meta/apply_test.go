package meta

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
)

func node(n byte, boot, life uint64) Node {
	return Node{ID: identity.NodeID{n}, Name: "n", Boot: boot, Life: life}
}

func initCommand() *Init {
	return &Init{
		Cluster: ClusterID{9}, Name: "dev", Partitions: 4, HashSeed: 77, FeatureLevel: 1, Node: node(1, 1, 11),
	}
}

// run applies commands to an empty view, with the producers in a map.
type runner struct {
	t      *testing.T
	view   *View
	epochs map[string]uint64
}

func newRunner(t *testing.T) *runner {
	return &runner{t: t, view: &View{}, epochs: map[string]uint64{}}
}

func (r *runner) apply(c Command) Result {
	r.t.Helper()
	before := *r.view
	out, err := Apply(r.view, c, func(name string) (uint64, error) { return r.epochs[name], nil })
	if err != nil {
		r.t.Fatal(err)
	}
	if !reflect.DeepEqual(before, *r.view) {
		r.t.Fatal("the old view was changed")
	}
	if out.Result.Err != nil && (len(out.Records) > 0 || out.View != r.view) {
		r.t.Fatalf("a refusal changed the state: %v", out.Result.Err)
	}
	if p, ok := c.(*OpenProducer); ok && out.Result.Err == nil {
		r.epochs[p.Name] = out.Result.Epoch
	}
	r.view = out.View
	return out.Result
}

func (r *runner) must(c Command) Result {
	r.t.Helper()
	res := r.apply(c)
	if res.Err != nil {
		r.t.Fatal(res.Err)
	}
	return res
}

func TestInit(t *testing.T) {
	r := newRunner(t)
	if err := r.apply(&StartNode{node(1, 1, 1)}).Err; !errors.Is(err, ErrNotMade) {
		t.Fatalf("before init: %v", err)
	}
	r.must(initCommand())
	r.must(initCommand()) // the outcome of the first was unknown
	if id, ok := r.view.ReplicaOn(MetaGroup, identity.NodeID{1}); !ok || id != FirstReplica {
		t.Fatalf("meta's replica: %d", id)
	}
	seen := map[uint64]bool{}
	for p := range uint16(4) {
		id, ok := r.view.ReplicaOn(PartitionGroup(p), identity.NodeID{1})
		if !ok || seen[uint64(id)] {
			t.Fatalf("partition %d: replica %d", p, id)
		}
		seen[uint64(id)] = true
	}
	if r.view.Cluster.NextReplica != 6 || len(r.view.Replicas) != 5 {
		t.Fatalf("%+v", r.view)
	}
	other := initCommand()
	other.Cluster = ClusterID{8}
	if err := r.apply(other).Err; !errors.Is(err, ErrMade) {
		t.Fatalf("second cluster: %v", err)
	}
}

func TestBootCounterRefusesCopies(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	for _, s := range []struct {
		name string
		node Node
		want error
	}{
		{"the same start again", node(1, 1, 11), nil},
		{"next start", node(1, 2, 12), nil},
		{"a copy that started at the same time", node(1, 2, 99), ErrCopy},
		{"rolled back", node(1, 1, 13), ErrCopy},
		{"the first life, late", node(1, 1, 11), ErrCopy},
		{"a gap: starts that never reached meta", node(1, 9, 14), nil},
		{"another node", node(2, 1, 15), nil},
		{"sorted before", node(0, 1, 16), nil},
	} {
		if s.node.ID.IsZero() {
			s.node.ID = identity.NodeID{0, 1}
		}
		if err := r.apply(&StartNode{s.node}).Err; !errors.Is(err, s.want) {
			t.Errorf("%s: %v, want %v", s.name, err, s.want)
		}
	}
	if n, ok := r.view.Node(identity.NodeID{1}); !ok || n.Boot != 9 {
		t.Errorf("recorded %+v", n)
	}
	if len(r.view.Nodes) != 3 || r.view.Nodes[0].ID != (identity.NodeID{0, 1}) {
		t.Errorf("nodes %+v", r.view.Nodes)
	}
}

func TestProducersAndGroups(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	for want := uint64(1); want <= 3; want++ {
		if got := r.must(&OpenProducer{"ci"}).Epoch; got != want {
			t.Fatalf("epoch %d, want %d", got, want)
		}
	}
	if got := r.must(&OpenProducer{"other"}).Epoch; got != 1 || r.view.Cluster.Producers != 2 {
		t.Fatalf("epoch %d, %d producers", got, r.view.Cluster.Producers)
	}
	a := r.must(&EnsureGroup{"ci", []byte("one")}).Group
	b := r.must(&EnsureGroup{"ci", []byte("two")}).Group
	c := r.must(&EnsureGroup{"review", nil}).Group
	if a.ID != 1 || !reflect.DeepEqual(a, b) || string(b.Settings) != "one" || c.ID != 2 || a.Version != 1 {
		t.Fatalf("%+v %+v %+v", a, b, c)
	}
}

func TestLimits(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	for i := range MaxGroups {
		r.must(&EnsureGroup{strings.Repeat("g", 1+i%100) + string(rune('a'+i%26)) + string(rune(0x100+i)), nil})
	}
	if err := r.apply(&EnsureGroup{"one too many", nil}).Err; !errors.Is(err, ErrTooMany) {
		t.Errorf("groups: %v", err)
	}
	full := *r.view
	full.Cluster.Producers = MaxProducers
	r.view = &full
	r.epochs["old"] = 5
	if err := r.apply(&OpenProducer{"new"}).Err; !errors.Is(err, ErrTooMany) {
		t.Errorf("producers: %v", err)
	}
	if got := r.must(&OpenProducer{"old"}).Epoch; got != 6 {
		t.Errorf("known producer: %d", got)
	}
	long := strings.Repeat("x", 300)
	for name, c := range map[string]Command{
		"no cluster id": &Init{Name: "x", Partitions: 1, Node: node(1, 1, 1)}, "no name": &Init{Cluster: ClusterID{1}, Partitions: 1, Node: node(1, 1, 1)},
		"no partitions": &Init{Cluster: ClusterID{1}, Name: "x", Node: node(1, 1, 1)},
		"partitions":    &Init{Cluster: ClusterID{1}, Name: "x", Partitions: MaxPartitions + 1, Node: node(1, 1, 1)},
		"no node":       &StartNode{Node{Boot: 1}}, "no boot": &StartNode{node(1, 0, 1)}, "node name": &StartNode{Node{identity.NodeID{1}, long, 1, 1}},
		"no producer": &OpenProducer{}, "producer": &OpenProducer{long}, "no group": &EnsureGroup{}, "group": &EnsureGroup{long, nil},
		"settings": &EnsureGroup{"g", make([]byte, maxSettings+1)},
	} {
		if err := r.apply(c).Err; err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What is durable must be read by every later version as it is written here.
func TestGoldenBytes(t *testing.T) {
	n := Node{ID: identity.NodeID{0xaa}, Name: "no", Boot: 3, Life: 4}
	const nodeID = "aa000000000000000000000000000000"
	const nodeBody = "026e6f" + "0000000000000003" + "0000000000000004"
	for name, c := range map[string]struct{ got, want string }{
		"init": {
			hex.EncodeToString((&Init{ClusterID{1}, "dev", 16, 5, 1, n}).append(nil)),
			"01" + "01000000000000000000000000000000" + "03646576" + "0010" + "0000000000000005" + "00000001" + nodeID + nodeBody,
		},
		"start":    {hex.EncodeToString((&StartNode{n}).append(nil)), "01" + nodeID + nodeBody},
		"producer": {hex.EncodeToString((&OpenProducer{"ci"}).append(nil)), "01026369"},
		"group":    {hex.EncodeToString((&EnsureGroup{"ci", []byte{7}}).append(nil)), "01026369" + "0000000107"},

		"applied record": {dump(appliedRecord(258)), "ffff01=010000000000000102"},
		"cluster record": {
			dump(clusterRecord(Cluster{ClusterID{1}, "dev", 16, 5, 1, 18, 2, 6})),
			"ffff02=01" + "01000000000000000000000000000000" + "03646576" + "0010" + "0000000000000005" + "00000001" +
				"0000000000000012" + "00000002" + "00000006",
		},
		"node record":     {dump(nodeRecord(n)), "ffff03" + nodeID + "=01" + nodeBody},
		"replica record":  {dump(replicaRecord(Replica{2, 1, n.ID})), "ffff040000000000000002=01" + "00000001" + nodeID},
		"producer record": {dump(producerRecord("ci", 9)), "ffff056369=010000000000000009"},
		"group record":    {dump(groupRecord(Group{3, "ci", 1, []byte{7}})), "ffff0600000003=01" + "026369" + "00000001" + "0000000107"},
	} {
		if c.got != c.want {
			t.Errorf("%s\n got %s\nwant %s", name, c.got, c.want)
		}
	}
}

func dump(r Record) string { return hex.EncodeToString(r.Key) + "=" + hex.EncodeToString(r.Value) }

func TestCommandsComeBack(t *testing.T) {
	for _, c := range []Command{
		initCommand(), &StartNode{node(3, 4, 5)}, &OpenProducer{"p"}, &EnsureGroup{"g", []byte("settings")},
	} {
		got, err := decodeCommand(c.kind(), c.append(nil))
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%T came back as %+v: %v", c, got, err)
		}
		if _, err := decodeCommand(c.kind(), append([]byte{2}, c.append(nil)[1:]...)); !errors.Is(err, ErrCommand) {
			t.Errorf("%T of a newer version: %v", c, err)
		}
	}
	if _, err := decodeCommand(200, nil); !errors.Is(err, ErrCommand) {
		t.Errorf("unknown kind: %v", err)
	}
}

func FuzzCommand(f *testing.F) {
	for _, c := range []Command{initCommand(), &StartNode{node(3, 4, 5)}, &OpenProducer{"p"}, &EnsureGroup{"g", []byte("s")}} {
		f.Add(c.kind(), c.append(nil))
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		c, err := decodeCommand(kind, body)
		if err != nil {
			return
		}
		if got := c.append(nil); string(got) != string(body) {
			t.Fatalf("%x came back as %x", body, got)
		}
		if _, err := Apply(&View{}, c, func(string) (uint64, error) { return 0, nil }); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	add := func(table byte, r Record) { f.Add(table, r.Key, r.Value) }
	add(tableCluster, clusterRecord(Cluster{ID: ClusterID{1}, Name: "x"}))
	add(tableNode, nodeRecord(node(1, 2, 3)))
	add(tableReplica, replicaRecord(Replica{1, 2, identity.NodeID{3}}))
	add(tableGroup, groupRecord(Group{1, "g", 2, []byte("s")}))
	add(tableProducer, producerRecord("p", 3))
	f.Fuzz(func(t *testing.T, table byte, k, v []byte) {
		var again Record
		var err error
		switch table {
		case tableCluster:
			var c Cluster
			c, err = parseCluster(v)
			again = clusterRecord(c)
		case tableNode:
			var n Node
			n, err = parseNode(k, v)
			again = nodeRecord(n)
		case tableReplica:
			var r Replica
			r, err = parseReplica(k, v)
			again = replicaRecord(r)
		case tableGroup:
			var g Group
			g, err = parseGroup(k, v)
			again = groupRecord(g)
		case tableProducer:
			var e uint64
			e, err = parseProducer(v)
			again = producerRecord("p", e)
		default:
			return
		}
		if err == nil && string(again.Value) != string(v) {
			t.Fatalf("%x came back as %x", v, again.Value)
		}
	})
}
