package cli

import (
	"strings"
	"testing"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
)

// trio starts three nodes of one cluster, and returns the first one's address and
// what stops each.
func trio(t *testing.T) (addr string, stop map[string]func()) {
	t.Helper()
	t.Chdir(t.TempDir())
	var first *config.Endpoints
	stop = map[string]func(){}
	for _, name := range []string{"one", "two", "three"} {
		cfg := config.Default()
		cfg.Name, cfg.Listen, cfg.HTTP, cfg.Partitions, cfg.Limits.DiskReserve = name, "127.0.0.1:0", "127.0.0.1:0", 4, 0
		cfg.Gossip, cfg.Peer, cfg.Join, cfg.DataDir = "127.0.0.1:0", "127.0.0.1:0", "none", "data-"+name
		cfg.MemoryLimit = 256 * config.MiB
		if first != nil {
			cfg.Join = first.Addresses.Gossip
		}
		e, end := serve(t, cfg)
		if first == nil {
			first = e
		}
		stop[name] = end
	}
	return first.Addresses.GRPC, stop
}

// awaitOut runs a command until its output is as wanted.
func awaitOut(t *testing.T, wanted func(out string) bool, args ...string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r := cli(t, "", args...)
		if r.code == 0 && wanted(r.out) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: after a minute still %+v", args, r)
		}
		<-tick.C
	}
}

// says checks how a command ended and what it wrote.
func (r result) says(t *testing.T, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d: %+v", r.code, r)
	}
	for _, w := range words {
		if !strings.Contains(r.out+r.err, w) {
			t.Errorf("%q is missing in %+v", w, r)
		}
	}
}

// TestDrainStopRemove: a node of three drains, is taken back, drains again, is
// stopped and removed, and each command says what that means.
func TestDrainStopRemove(t *testing.T) {
	addr, stop := trio(t)
	do := func(args ...string) result { return cli(t, "", append(args, "--addr", addr)...) }
	copies := func(n string) func(string) bool {
		return func(out string) bool {
			return strings.Contains(strings.Join(strings.Fields(out), " "), "durable copies "+n)
		}
	}
	awaitOut(t, copies("3"), "status", "--addr", addr)
	do("nodes").says(t, 0, "one", "two", "three", "up", "LATELY")
	do("nodes", "--output", "json").says(t, 0, `"name":"three"`)

	do("drain", "four").says(t, 1, "no node of the cluster")
	do("drain").says(t, 2, "want one node")
	do("drain", "three").says(t, 0, "2 nodes stay", "from 3 to 1 voter", "three holds no partition any more", "remove three", "drain three --undo")
	do("nodes").says(t, 0, "draining")
	awaitOut(t, copies("1"), "status", "--addr", addr)

	do("drain", "three", "--undo").says(t, 0, "takes part again")
	awaitOut(t, copies("3"), "status", "--addr", addr)

	do("drain", "three", "--wait", "0").says(t, 0, "2 nodes stay")
	do("drain", "three", "--output", "json").says(t, 0, `{"node":"three"`, `"holds":0,"partitions":4,"done":true}`)
	stop["three"]()
	do("remove", "three").says(t, 0, "no node of the cluster any more", "--data-dir")
	if r := do("nodes"); r.code != 0 || strings.Contains(strings.SplitN(r.out, "LATELY", 2)[0], "three") {
		t.Errorf("a removed node is shown: %+v", r)
	}
	do("drain", "three").says(t, 1, "no node")
	do("drain", "two").says(t, 0, "two holds no partition any more")
	do("drain", "one").says(t, 2, "none would be left")
	stop["two"]()
	do("remove", "two", "--output", "json").says(t, 0, `{"node":"two","removed":true}`)
	do("remove", "one").says(t, 2, "only node")
}

// TestDrainIsNotOverUnheard: a node holds nothing once every partition's leader says
// so, and not because one of them is not heard of for the moment, as of a busy machine.
func TestDrainIsNotOverUnheard(t *testing.T) {
	var out strings.Builder
	d := drain{name: "one", out: &out}
	x := &waystationv1.Node{Id: "a", Name: "one", State: "draining"}
	answer := func(leaders ...string) *waystationv1.DescribeClusterResponse {
		r := &waystationv1.DescribeClusterResponse{Nodes: []*waystationv1.Node{x, {Id: "b", Name: "two", State: "up"}}}
		for _, l := range leaders {
			p := &waystationv1.Partition{Leader: l}
			if l != "" {
				p.Voters = []string{l}
			}
			r.Partitions = append(r.Partitions, p)
		}
		return r
	}
	if d.say(answer("b", ""), x) || out.Len() > 0 {
		t.Errorf("without one of the leaders: %q", out.String())
	}
	if d.say(answer("b", "a"), x) || !strings.Contains(out.String(), "holds 1 of 2") {
		t.Errorf("while it leads one: %q", out.String())
	}
	if !d.say(answer("b", "b"), x) || !strings.Contains(out.String(), "holds no partition any more") {
		t.Errorf("at the end: %q", out.String())
	}
}

// TestNodesShowWhatMoves: the step that each group's leader makes, and how far it is.
func TestNodesShowWhatMoves(t *testing.T) {
	const step = "partition 3: replica 21 on node two catches up: 12 MB of 64 MB"
	var out strings.Builder
	err := printNodes(&out, &waystationv1.DescribeClusterResponse{
		Nodes:      []*waystationv1.Node{{Name: "one", State: "up"}, {Name: "two\x1b[31m", State: "draining"}},
		Partitions: []*waystationv1.Partition{{Id: 2}, {Id: 3, Moving: step}},
		Moving:     "cluster: replica 4 on node two votes",
	})
	_, moving, found := strings.Cut(out.String(), "\nMOVING\n")
	if err != nil || !found || moving != "cluster: replica 4 on node two votes\n"+step+"\n" {
		t.Errorf("%v:\n%s", err, out.String())
	}
	if strings.ContainsRune(out.String(), 0x1b) || strings.Contains(out.String(), "LATELY") {
		t.Errorf("shown:\n%s", out.String())
	}
}

func TestWhatADrainMeans(t *testing.T) {
	cluster := func(voters int, states ...string) *waystationv1.DescribeClusterResponse {
		r := &waystationv1.DescribeClusterResponse{Partitions: []*waystationv1.Partition{{Voters: make([]string, voters)}}}
		for i, s := range states {
			r.Nodes = append(r.Nodes, &waystationv1.Node{Id: string(rune('a' + i)), Name: "n" + string(rune('a'+i)), State: s})
		}
		return r
	}
	for _, c := range []struct {
		r    *waystationv1.DescribeClusterResponse
		want string
	}{
		{cluster(3, "draining", "up", "up"), "2 nodes stay, and voters are 1, 3 or 5: each partition goes from 3 to 1 voter,"},
		{cluster(3, "draining", "draining", "up"), "1 node stays, and"},
		{cluster(5, "draining", "up", "up", "up", "up"), "4 nodes stay, and voters are 1, 3 or 5: each partition goes from 5 to 3 voters,"},
		{cluster(3, "draining", "up", "up", "up"), ""},
		{cluster(1, "draining", "up"), ""},
	} {
		got := meaning(c.r, c.r.GetNodes()[0])
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
