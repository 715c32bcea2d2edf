package meta

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

func node(n byte, boot, life uint64) Node {
	return Node{
		ID: identity.NodeID{n}, Name: string(rune('a' + n - 1)), Boot: boot, Life: life, Features: Features{Min: 1, Max: 2},
	}
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
	nowMs  int64
	stored map[string][]byte
	forged bool // the view was changed by hand, not by records
}

func newRunner(t *testing.T) *runner {
	return &runner{t: t, view: &View{}, epochs: map[string]uint64{}, stored: map[string][]byte{}}
}

func (r *runner) apply(c Command) Result {
	r.t.Helper()
	r.nowMs++
	before := r.view
	look := len(before.Nodes)+len(before.Operations) < 100 || r.nowMs%100 == 0
	if look {
		before = clone(before)
	}
	out, err := Apply(r.view, c, At{TimeMs: r.nowMs}, func(name string) (uint64, error) { return r.epochs[name], nil })
	if err != nil {
		r.t.Fatal(err)
	}
	if look && !reflect.DeepEqual(before, r.view) {
		r.t.Fatal("the old view was changed")
	}
	if out.Result.Err != nil && (len(out.Records) > 0 || out.View != r.view) {
		r.t.Fatalf("a refusal changed the state: %v", out.Result.Err)
	}
	if p, ok := c.(*OpenProducer); ok && out.Result.Err == nil {
		r.epochs[p.Name] = out.Result.Epoch
	}
	r.view = out.View
	r.store(out.Records)
	return out.Result
}

// clone copies a view with all of its slices.
func clone(v *View) *View {
	next := *v
	next.Nodes, next.Replicas, next.Placements = slices.Clone(v.Nodes), slices.Clone(v.Replicas), slices.Clone(v.Placements)
	next.Groups, next.Operations = slices.Clone(v.Groups), slices.Clone(v.Operations)
	return &next
}

// store keeps the records, and sees that they say what the view does.
func (r *runner) store(records []Record) {
	r.t.Helper()
	for _, rec := range records {
		if rec.Value == nil {
			delete(r.stored, string(rec.Key))
			continue
		}
		r.stored[string(rec.Key)] = rec.Value
	}
	if r.forged || len(r.stored) > 200 && r.nowMs%100 != 0 {
		return
	}
	kv := memstore.New()
	defer func() { _ = kv.Close() }()
	state := storage.NewState(kv, slog.New(slog.DiscardHandler))
	b := state.NewBatch()
	for k, v := range r.stored {
		b.Set([]byte(k), v)
	}
	if err := b.Commit(); err != nil {
		r.t.Fatal(err)
	}
	got, err := readView(state)
	if err != nil {
		r.t.Fatal(err)
	}
	if !reflect.DeepEqual(normal(got), normal(r.view)) {
		r.t.Fatalf("read back\n%.2000v\nwant\n%.2000v", fmt.Sprint(got), fmt.Sprint(r.view))
	}
}

// normal makes empty slices nil.
func normal(v *View) *View {
	v = clone(v)
	for _, empty := range []func(){
		func() { v.Nodes = orNil(v.Nodes) }, func() { v.Replicas = orNil(v.Replicas) },
		func() { v.Placements = orNil(v.Placements) }, func() { v.Groups = orNil(v.Groups) },
		func() { v.Operations = orNil(v.Operations) },
	} {
		empty()
	}
	for i := range v.Groups {
		v.Groups[i].Settings = orNil(v.Groups[i].Settings)
	}
	for i := range v.Placements {
		v.Placements[i].Voters = orNil(v.Placements[i].Voters)
	}
	return v
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
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
		{"no member", node(2, 1, 15), ErrNoNode},
	} {
		if err := r.apply(&StartNode{s.node}).Err; !errors.Is(err, s.want) {
			t.Errorf("%s: %v, want %v", s.name, err, s.want)
		}
	}
	if n, ok := r.view.Node(identity.NodeID{1}); !ok || n.Boot != 9 {
		t.Errorf("recorded %+v", n)
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

// A deleted group's id is never given again, and its name may be.
func TestGroupIsDeleted(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	a := r.must(&EnsureGroup{"a", nil}).Group
	b := r.must(&EnsureGroup{"b", nil}).Group
	if err := r.apply(&DropGroup{b.ID + 1}).Err; !errors.Is(err, ErrNoGroup) {
		t.Errorf("a group that there never was: %v", err)
	}
	for range 2 { // proposed again it is found to be done
		r.must(&DropGroup{b.ID})
	}
	if _, ok := r.view.Group("b"); ok || !r.view.GroupDeleted(b.ID) || r.view.GroupDeleted(a.ID) || r.view.GroupDeleted(b.ID+1) {
		t.Errorf("groups %+v", r.view.Groups)
	}
	again := r.must(&EnsureGroup{"b", nil}).Group
	r.must(&DropGroup{b.ID}) // late
	if g, ok := r.view.Group("b"); !ok || g.ID != again.ID || again.ID <= b.ID {
		t.Errorf("the name made %+v after %+v", again, b)
	}
}

func TestGroupSettings(t *testing.T) {
	r := newRunner(t)
	r.must(initCommand())
	made := r.must(&SetGroup{"ci", 0, []byte("one")}).Group
	for _, c := range []struct {
		set  *SetGroup
		want error
	}{
		{&SetGroup{"ci", 0, []byte("one")}, nil}, // proposed again
		{&SetGroup{"ci", 0, []byte("two")}, ErrGroupThere},
		{&SetGroup{"cd", 1, []byte("two")}, ErrNoGroup},
		{&SetGroup{"ci", 2, []byte("two")}, ErrGroupChanged},
		{&SetGroup{"ci", 1, []byte("two")}, nil},
		{&SetGroup{"ci", 1, []byte("two")}, nil}, // proposed again
		{&SetGroup{"ci", 1, []byte("three")}, ErrGroupChanged},
		{&SetGroup{"ci", 2, []byte("three")}, nil},
	} {
		if err := r.apply(c.set).Err; !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%+v: %v, want %v", c.set, err, c.want)
		}
	}
	g, _ := r.view.Group("ci")
	if g.ID != made.ID || g.Version != 3 || string(g.Settings) != "three" || len(r.view.Groups) != 1 {
		t.Errorf("group %+v of %+v", g, r.view.Groups)
	}
	if e := r.must(&EnsureGroup{"ci", nil}).Group; e.Version != 3 {
		t.Errorf("ensured %+v", e)
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
	r.view, r.forged = &full, true
	r.epochs["old"] = 5
	if err := r.apply(&OpenProducer{"new"}).Err; !errors.Is(err, ErrTooMany) {
		t.Errorf("producers: %v", err)
	}
	if got := r.must(&OpenProducer{"old"}).Epoch; got != 6 {
		t.Errorf("known producer: %d", got)
	}
	long := strings.Repeat("x", 300)
	for name, c := range map[string]Command{
		"no cluster id": &Init{Name: "x", Partitions: 1, FeatureLevel: 1, Node: node(1, 1, 1)}, "no name": &Init{Cluster: ClusterID{1}, Partitions: 1, FeatureLevel: 1, Node: node(1, 1, 1)},
		"no partitions": &Init{Cluster: ClusterID{1}, Name: "x", FeatureLevel: 1, Node: node(1, 1, 1)},
		"partitions":    &Init{Cluster: ClusterID{1}, Name: "x", Partitions: MaxPartitions + 1, FeatureLevel: 1, Node: node(1, 1, 1)},
		"no level":      &Init{Cluster: ClusterID{1}, Name: "x", Partitions: 1, Node: node(1, 1, 1)},
		"no node":       &StartNode{Node{Name: "a", Boot: 1}}, "no boot": &StartNode{node(1, 0, 1)},
		"no node name": &JoinNode{Node{ID: identity.NodeID{1}, Boot: 1}}, "node name": &StartNode{Node{ID: identity.NodeID{1}, Name: long, Boot: 1}},
		"zone":        &JoinNode{Node{ID: identity.NodeID{2}, Name: "b", Boot: 1, Zone: long}},
		"version":     &JoinNode{Node{ID: identity.NodeID{2}, Name: "b", Boot: 1, Version: long}},
		"address":     &JoinNode{Node{ID: identity.NodeID{2}, Name: "b", Boot: 1, Addresses: Addresses{Gossip: long}}},
		"levels":      &JoinNode{Node{ID: identity.NodeID{2}, Name: "b", Boot: 1, Features: Features{2, 1}}},
		"no producer": &OpenProducer{}, "producer": &OpenProducer{long}, "no group": &EnsureGroup{}, "group": &EnsureGroup{long, nil},
		"set no group": &SetGroup{}, "set settings": &SetGroup{"g", 1, make([]byte, maxSettings+1)},
		"settings": &EnsureGroup{"g", make([]byte, maxSettings+1)}, "state": &SetNodeState{identity.NodeID{1}, NodeJoining},
		"reason": &SetMap{Generation: 1, Why: long}, "broken reason": &ReplaceReplica{1, 2, long},
		"empty report": &ReportGroup{Group: 1, Version: 1, Term: 1},
		"unsorted":     &ReportGroup{Group: 1, Version: 1, Term: 1, Voters: []storage.ReplicaID{2, 1}},
	} {
		if err := r.apply(c).Err; err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What is durable must be read by every later version as it is written here.
func TestGoldenBytes(t *testing.T) {
	n := Node{
		ID: identity.NodeID{0xaa}, Name: "no", Boot: 3, Life: 4, Addresses: Addresses{"g", "h", "p", "s"},
		Zone: "z", Version: "v", Features: Features{1, 2}, State: NodeDraining, JoinedMs: 5, ChangedMs: 6,
	}
	const nodeID = "aa000000000000000000000000000000"
	const nodeBody = "026e6f" + "0000000000000003" + "0000000000000004" + "0167" + "0168" + "0170" + "0173" + "017a" + "0176" + "00000001" + "00000002"
	for name, c := range map[string]struct{ got, want string }{
		"init": {
			hex.EncodeToString((&Init{ClusterID{1}, "dev", 16, 5, 1, n}).append(nil)),
			"01" + "01000000000000000000000000000000" + "03646576" + "0010" + "0000000000000005" + "00000001" + nodeID + nodeBody,
		},
		"start":      {hex.EncodeToString((&StartNode{n}).append(nil)), "01" + nodeID + nodeBody},
		"producer":   {hex.EncodeToString((&OpenProducer{"ci"}).append(nil)), "01026369"},
		"group":      {hex.EncodeToString((&EnsureGroup{"ci", []byte{7}}).append(nil)), "01026369" + "0000000107"},
		"drop group": {hex.EncodeToString((&DropGroup{258}).append(nil)), "01" + "00000102"},
		"set group":  {hex.EncodeToString((&SetGroup{"ci", 2, []byte{7}}).append(nil)), "01026369" + "00000002" + "0000000107"},
		"join":       {hex.EncodeToString((&JoinNode{n}).append(nil)), "01" + nodeID + nodeBody},
		"node state": {hex.EncodeToString((&SetNodeState{n.ID, NodeRemoved}).append(nil)), "01" + nodeID + "04"},
		"map": {
			hex.EncodeToString((&SetMap{7, []GroupWish{{3, []ReplicaWish{{9, n.ID, Voter, true}}}}, "w"}).append(nil)),
			"01" + "0000000000000007" + "0177" + "0001" + "00000003" + "0001" + "0000000000000009" + nodeID + "02" + "01",
		},
		"report": {
			hex.EncodeToString((&ReportGroup{3, 7, 8, true, []storage.ReplicaID{9}, []storage.ReplicaID{10, 11}}).append(nil)),
			"01" + "00000003" + "0000000000000007" + "0000000000000008" + "01" + "0001" + "0000000000000009" +
				"0002" + "000000000000000a" + "000000000000000b",
		},
		"gone":    {hex.EncodeToString((&ReplicaGone{3, 9}).append(nil)), "01" + "00000003" + "0000000000000009"},
		"replace": {hex.EncodeToString((&ReplaceReplica{3, 9, "w"}).append(nil)), "01" + "00000003" + "0000000000000009" + "0177"},
		"feature": {hex.EncodeToString((&RaiseFeature{2}).append(nil)), "01" + "00000002"},

		"applied record": {dump(appliedRecord(258)), "ffff01=010000000000000102"},
		"cluster record": {
			dump(clusterRecord(Cluster{ClusterID{1}, "dev", 16, 5, 1, 18, 2, 6, 7})),
			"ffff02=01" + "01000000000000000000000000000000" + "03646576" + "0010" + "0000000000000005" + "00000001" +
				"0000000000000012" + "00000002" + "00000006" + "0000000000000007",
		},
		"node record":     {dump(nodeRecord(n)), "ffff03" + nodeID + "=01" + nodeBody + "03" + "0000000000000005" + "0000000000000006"},
		"replica record":  {dump(replicaRecord(Replica{2, 1, n.ID, Voter, true, ReplicaLeaving})), "ffff040000000000000002=01" + "00000001" + nodeID + "020102"},
		"producer record": {dump(producerRecord("ci", 9)), "ffff056369=010000000000000009"},
		"group record":    {dump(groupRecord(Group{3, "ci", 1, []byte{7}})), "ffff0600000003=01" + "026369" + "00000001" + "0000000107"},
		"placement record": {
			dump(placementRecord(Placement{3, 7, 8, 6, true, []storage.ReplicaID{9}})),
			"ffff0700000003=01" + "0000000000000007" + "0000000000000008" + "0000000000000006" + "01" + "0001" + "0000000000000009",
		},
		"operation record": {dump(operationRecord(Operation{4, 5, "hi"})), "ffff080000000000000004=01" + "0000000000000005" + "00000002" + "6869"},

		"result": {
			hex.EncodeToString((&Result{Epoch: 3, Replica: 4, Group: Group{5, "ci", 6, []byte{7}}}).append(nil)),
			"01" + "00" + "00000000" + "0000000000000003" + "0000000000000004" + "00000005" + "026369" + "00000006" + "0000000107",
		},
		"refusal": {
			hex.EncodeToString((&Result{Err: ErrNameTaken}).append(nil)),
			"01" + "05" + "00000012" + hex.EncodeToString([]byte("node name is taken")) + strings.Repeat("00", 8+8+4+1+4+4),
		},
	} {
		if c.got != c.want {
			t.Errorf("%s\n got %s\nwant %s", name, c.got, c.want)
		}
	}
}

func dump(r Record) string { return hex.EncodeToString(r.Key) + "=" + hex.EncodeToString(r.Value) }

func commands() []Command {
	return []Command{
		initCommand(), &StartNode{node(3, 4, 5)}, &OpenProducer{"p"}, &EnsureGroup{"g", []byte("settings")}, &SetGroup{"g", 1, []byte("others")}, &DropGroup{7},
		&JoinNode{node(3, 4, 5)}, &SetNodeState{identity.NodeID{3}, NodeDraining},
		&SetMap{3, []GroupWish{{1, []ReplicaWish{{2, identity.NodeID{3}, Voter, true}, {0, identity.NodeID{4}, Learner, false}}}, {Group: 2}}, "why"},
		&ReportGroup{1, 2, 3, false, []storage.ReplicaID{4, 5}, nil}, &ReplicaGone{1, 2}, &ReplaceReplica{1, 2, "why"}, &RaiseFeature{2},
	}
}

func TestCommandsComeBack(t *testing.T) {
	if len(commands()) != len(readers()) {
		t.Fatalf("%d kinds of commands, %d are tried", len(readers()), len(commands()))
	}
	for _, c := range commands() {
		got, err := decodeCommand(c.kind(), c.append(nil))
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%T came back as %+v: %v", c, got, err)
		}
		if _, err := decodeCommand(c.kind(), append([]byte{2}, c.append(nil)[1:]...)); !errors.Is(err, ErrCommand) {
			t.Errorf("%T of a newer version: %v", c, err)
		}
		if _, err := decodeCommand(c.kind(), append(c.append(nil), 0)); !errors.Is(err, ErrCommand) {
			t.Errorf("%T with more behind it: %v", c, err)
		}
	}
	if _, err := decodeCommand(200, nil); !errors.Is(err, ErrCommand) {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestResultsComeBack(t *testing.T) {
	for i, known := range codes() {
		r := Result{Err: fmt.Errorf("%w: and why", known)}
		got, err := parseResult(r.append(nil))
		if err != nil || !errors.Is(got.Err, known) || got.Err.Error() != r.Err.Error() {
			t.Errorf("%v came back as %v, %v", known, got.Err, err)
		}
		if codeOf(known) != uint8(i+1) {
			t.Errorf("%v has code %d", known, codeOf(known))
		}
	}
	r := Result{Err: errors.New("of another kind")}
	if got, err := parseResult(r.append(nil)); err != nil || got.Err == nil || got.Err.Error() != "of another kind" {
		t.Errorf("came back as %v, %v", got.Err, err)
	}
	if _, err := parseResult([]byte{1, 0}); err == nil {
		t.Error("half a result was read")
	}
}

func FuzzCommand(f *testing.F) {
	for _, c := range commands() {
		f.Add(c.kind(), c.append(nil))
	}
	r := newRunner(&testing.T{})
	r.must(initCommand())
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		c, err := decodeCommand(kind, body)
		if err != nil {
			return
		}
		if got := c.append(nil); string(got) != string(body) {
			t.Fatalf("%x came back as %x", body, got)
		}
		for _, v := range []*View{{}, r.view} {
			if _, err := Apply(v, c, At{}, func(string) (uint64, error) { return 0, nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	add := func(table byte, r Record) { f.Add(table, r.Key, r.Value) }
	add(tableCluster, clusterRecord(Cluster{ID: ClusterID{1}, Name: "x"}))
	add(tableNode, nodeRecord(node(1, 2, 3)))
	add(tableReplica, replicaRecord(Replica{1, 2, identity.NodeID{3}, Voter, true, ReplicaWanted}))
	add(tablePlacement, placementRecord(Placement{1, 2, 3, 4, true, []storage.ReplicaID{5}}))
	add(tableOperation, operationRecord(Operation{1, 2, "text"}))
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
		case tablePlacement:
			var p Placement
			p, err = parsePlacement(k, v)
			again = placementRecord(p)
		case tableOperation:
			var o Operation
			o, err = parseOperation(k, v)
			again = operationRecord(o)
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
