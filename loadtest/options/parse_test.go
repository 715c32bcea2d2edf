package options

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	with := func(change func(*Options)) Options {
		o := Default()
		change(&o)
		return o
	}
	for _, tc := range []struct {
		args string
		want Options
	}{
		{"", Default()},
		{"--workload synthetic --phases publish --duration 15s", with(func(o *Options) {
			o.Workload, o.Work, o.Duration = Synthetic, false, 15*time.Second
		})},
		{"--phases work,publish", Default()},
		{"--fault kill:every=5s --duration 30s --resend 0.05", with(func(o *Options) {
			o.Faults = []Fault{{Kind: Kill, Every: 5 * time.Second}}
			o.Duration, o.Resend = 30*time.Second, 0.05
		})},
		{"--nodes 3 --rolling-restart --replication 5", with(func(o *Options) {
			o.Nodes, o.NodesGiven, o.RollingRestart, o.Replication = 3, true, true, 5
		})},
		{"--grow 1,3,1 --fault partition:every=5s", with(func(o *Options) {
			o.Grow = []int{1, 3, 1}
			o.Faults = []Fault{{Kind: Partition, Every: 5 * time.Second, For: 2500 * time.Millisecond}}
		})},
		{"--grow 3,1", with(func(o *Options) { o.Nodes, o.Grow = 3, []int{3, 1} })},
		{"--target a:1,b:2 --rate 8000.5 --ids id --json -", with(func(o *Options) {
			o.Targets, o.Rate, o.IDs, o.JSON = "a:1,b:2", 8000.5, ByID, "-"
		})},
		{"--scenario workers-die --html x.html", with(func(o *Options) {
			o.Scenario = Scenario{Name: WorkersDie, Every: 3 * time.Second}
			o.Workload, o.Rate, o.Duration, o.HTML = Synthetic, 4000, 30*time.Second, "x.html"
			o.Lease, o.Repos = 2*time.Second, 10_000
		})},
		{"--scenario isolation:every=1s,hot=0.5 --repos 9 --rate 10", with(func(o *Options) {
			o.Scenario = Scenario{Name: Isolation, Every: time.Second, Hot: 0.5}
			o.Workload, o.Rate, o.Duration, o.Repos = Synthetic, 10, 48*time.Second, 9
		})},
		{"--scenario backlog:depth=3 --drain 1s --batch 4", with(func(o *Options) {
			o.Scenario = Scenario{Name: Backlog, Depth: 3, Small: 0.01}
			o.Workload, o.Repos, o.Size, o.Resend, o.Drain, o.Batch = Synthetic, 1_000_000, 100, 0, time.Second, 4
		})},
		{"--seed 0", with(func(o *Options) { o.SeedGiven = true })},
		{"--seed=7 -skew 1.1 -repos 10 --size 0", with(func(o *Options) {
			o.Seed, o.SeedGiven, o.Skew, o.Repos, o.Size = 7, true, 1.1, 10, 0
		})},
	} {
		got, err := Parse(strings.Fields(tc.args), io.Discard)
		if err != nil {
			t.Errorf("%q: %v", tc.args, err)
		} else if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", tc.args, got, tc.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"--nodes 10", "1 to 9"},
		{"--nodes 0", "1 to 9"},
		{"--nodes 3 --replication 2", "1, 3 or 5"},
		{"--nodes 3 --target a:1", "leave one of them out"},
		{"--rolling-restart --target a:1", "use --nodes"},
		{"--grow 1,3 --target a:1", "leave --target out"},
		{"--grow 1,3,1 --nodes 3", "leave --nodes out"},
		{"--grow 3", "such as 1,3,1"},
		{"--grow 1,x", "such as 1,3,1"},
		{"--grow 1,10", "1 to 9"},
		{"--grow 1,3 --rolling-restart", "choose one"},
		{"--fault partition:every=5s", "use --nodes 3"},
		{"--nodes 2 --fault partition:every=5s", "use --nodes 3"},
		{"--nodes 3 --replication 1 --fault partition:every=5s", "--replication 3"},
		{"--fault kill:every=60s", "make --duration longer"},
		{"--burst 10x:at=5s,for=5s", "not in this version"},
		{"--scenario rollout", "must be workers-die"},
		{"--scenario workers-die:hot=1", "unknown parameter"},
		{"--scenario workers-die:every=soon", "cannot be read"},
		{"--scenario workers-die --workers 1", "half of 1"},
		{"--scenario workers-die --rate 0", "use --rate"},
		{"--scenario workers-die --phases publish", "without workers"},
		{"--scenario workers-die --grow 1,3", "not with"},
		{"--scenario isolation:every=30s", "twice within"},
		{"--scenario isolation --repos 3", "4 or more"},
		{"--scenario isolation --workload source", "synthetic"},
		{"--scenario backlog --rate 10", "leave --rate out"},
		{"--scenario backlog:small=2", "share"},
		{"--scenario backlog --target a:1", "empty relay"},
		{"--batch 1025", "--batch"},
		{"--no-such-flag", "no-such-flag"},
		{"stray", "stray"},
		{"--workload tar", "source or synthetic"},
		{"--ids both", "position or id"},
		{"--phases work", "nothing to work off"},
		{"--phases publish,read", "publish,work"},
		{"--phases=", "publish,work"},
		{"--resend 2", "share"},
		{"--resend NaN", "share"},
		{"--rate -1", "closed loop"},
		{"--rate NaN", "closed loop"},
		{"--skew NaN", "--skew"},
		{"--window 0", "--window"},
		{"--size 8388609", "--size"},
		{"--lease 10ms", "--lease"},
		{"--duration 0s", "--duration"},
		{"--duration 11h", "together"},
		{"--drain -1s", "--drain"},
		{"--target a:1 --fault kill:every=5s", "own nodes"},
		{"--fault net:every=5s", "must be kill, pause"},
		{"--fault powerloss:every=5s,for=1s", "unknown parameter"},
		{"--fault kill:every=5s,delay=1s", "unknown parameter"},
		{"--fault slowdisk:every=5s,delay=2s", "at most 1s"},
		{"--fault kill:every=5s,for=5s", "shorter"},
		{"--fault kill", "needs every="},
		{"--fault every=5s", "needs a name"},
		{"--fault kill:every=soon", "not a duration"},
		{"--fault kill:every=0s", "more than 0"},
		{"--fault kill:for=5s", "needs every="},
		{"--fault pause:for=1s", "needs every="},
		{"--fault pause:every=1s,for=1s", "shorter"},
	} {
		if _, err := Parse(strings.Fields(tc.args), io.Discard); err == nil {
			t.Errorf("%q: accepted", tc.args)
		} else if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want it to say %q", tc.args, err, tc.want)
		}
	}
}

func TestParseFaults(t *testing.T) {
	got, err := ParseFaults("kill:every=5s,pause:every=7s,for=2s,pause:every=1s,kill:every=9s,for=1s," +
		"partition:every=13s,powerloss:every=15s,slowdisk:every=8s,delay=5ms")
	want := []Fault{
		{Kind: Kill, Every: 5 * time.Second},
		{Kind: Pause, Every: 7 * time.Second, For: 2 * time.Second},
		{Kind: Pause, Every: time.Second, For: 500 * time.Millisecond},
		{Kind: Kill, Every: 9 * time.Second, For: time.Second},
		{Kind: Partition, Every: 13 * time.Second, For: 3 * time.Second},
		{Kind: PowerLoss, Every: 15 * time.Second},
		{Kind: SlowDisk, Every: 8 * time.Second, For: 2 * time.Second, Delay: 5 * time.Millisecond},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestParseHelp(t *testing.T) {
	var out strings.Builder
	if _, err := Parse([]string{"--help"}, &out); !errors.Is(err, ErrHelp) {
		t.Fatalf("got %v", err)
	}
	for _, name := range []string{"-fault", "-resend", "Exit codes"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("help does not mention %s", name)
		}
	}
}
