package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/internal/leak"
	"github.com/waystation/waystation/internal/written"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// childOutput is the variable that makes the test binary a worker's command: it
// appends what it was given to the named file.
const childOutput = "WAYSTATION_TEST_OUTPUT"

// childCommand makes it the command line itself, with these arguments, a line each.
const childCommand = "WAYSTATION_TEST_COMMAND"

func TestMain(m *testing.M) {
	if path := os.Getenv(childOutput); path != "" {
		os.Exit(child(path))
	}
	if args := os.Getenv(childCommand); args != "" {
		_ = os.Unsetenv(childCommand) // what it runs is something else
		os.Exit(Main(context.Background(), OSStreams(), strings.Split(args, "\n")))
	}
	leak.Main(m)
}

// seen is what a command was given.
type seen struct {
	Content string
	Env     map[string]string
}

// child exits with 65, or any other code, if the content asks for it.
func child(path string) int {
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 70
	}
	s := seen{Content: string(content), Env: make(map[string]string)}
	for _, v := range os.Environ() {
		if k, v, _ := strings.Cut(v, "="); strings.HasPrefix(k, "WAYSTATION_") || k == "PATH" || k == "LD_PRELOAD" {
			s.Env[k] = v
		}
	}
	line, err := json.Marshal(s)
	if err != nil {
		return 70
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 70
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return 70
	}
	code := 0
	if _, err := fmt.Sscanf(s.Content, "exit %d", &code); err == nil {
		fmt.Fprintf(os.Stderr, "because it says so\n")
	}
	return code
}

// startNode runs a node whose data folder lies in the current one, a temporary
// one, so that it is found there. It returns its endpoints.
func startNode(t *testing.T) *config.Endpoints {
	t.Helper()
	t.Chdir(t.TempDir())
	cfg := config.Default()
	cfg.Name, cfg.Listen, cfg.HTTP, cfg.Partitions, cfg.Limits.DiskReserve = "test", "127.0.0.1:0", "127.0.0.1:0", 4, 0
	cfg.Gossip, cfg.Peer, cfg.Join = "127.0.0.1:0", "127.0.0.1:0", "none"
	cfg.Seed.BackoffBase = 50 * time.Millisecond
	e, _ := serve(t, cfg)
	return e
}

// serve runs a node until the test ends, or stop is called.
func serve(t *testing.T, cfg config.Config) (e *config.Endpoints, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, cfg, io.Discard, slog.New(slog.DiscardHandler)) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(stop)
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if e, err := config.ReadEndpoints(cfg.DataDir); err == nil {
			return e, stop
		}
		if time.Now().After(deadline) || len(ended) > 0 {
			t.Fatal("the node does not start")
		}
	}
	return nil, stop
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

func (r result) lines() []string {
	return strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
}

// cli runs a command line.
func cli(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return cliEnv(t, stdin, nil, args...)
}

func cliEnv(t *testing.T, stdin string, env map[string]string, args ...string) result {
	t.Helper()
	var out, errs written.Text
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	code := Main(ctx, Streams{
		In: strings.NewReader(stdin), Out: &out, Err: &errs,
		Getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}, args)
	return result{code, out.String(), errs.String()}
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSend(t *testing.T) {
	startNode(t)
	a, b := file(t, "a", "first"), file(t, "b", "")
	r := cli(t, "", "send", "--repo", "acme/api", a, b, a)
	if r.code != 0 || !slices.Equal(r.lines(), []string{"acme/api 1", "acme/api 2", "acme/api 3"}) {
		t.Fatalf("files: %+v", r)
	}
	r = cli(t, "piped", "send", "--repo", "acme/api", "--id", "x", "--priority", "high", "--kind", "diff", "--meta", "branch=main", "--meta", "a=b=c")
	if r.code != 0 || r.out != "acme/api 4 x\n" {
		t.Errorf("standard input: %+v", r)
	}
	if r = cli(t, "piped", "send", "--repo", "acme/api", "--id", "x", "-"); r.code != 0 || r.out != "acme/api 4 x duplicate\n" {
		t.Errorf("resend: %+v", r)
	}
	r = cli(t, "other", "send", "--repo", "acme/api", "--id", "x", "--output", "json")
	var receipt map[string]any
	if err := json.Unmarshal([]byte(r.out), &receipt); err != nil || receipt["sequence"] != "4" || receipt["content_differs"] != true {
		t.Errorf("JSON: %+v", r)
	}
	r = cli(t, "", "tail", "acme/api", "--output", "json", "--from", "4")
	var packet struct {
		Content  []byte
		Priority string
		Kind     string
		Metadata map[string]string
	}
	if err := json.Unmarshal([]byte(r.out), &packet); err != nil || string(packet.Content) != "piped" || packet.Priority != "HIGH" ||
		packet.Kind != "diff" || packet.Metadata["branch"] != "main" || packet.Metadata["a"] != "b=c" {
		t.Errorf("what arrived: %+v %v", r, err)
	}
	for name, x := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no repository":    {[]string{"send", a}, 2, "--repo"},
		"empty repository": {[]string{"send", "--repo", "", a}, 1, "repo_id"},
		"one id for two":   {[]string{"send", "--repo", "r", "--id", "x", a, b}, 2, "--id"},
		"priority":         {[]string{"send", "--repo", "r", "--priority", "urgent", a}, 2, "--priority"},
		"metadata":         {[]string{"send", "--repo", "r", "--meta", "x", a}, 2, "--meta"},
		"output":           {[]string{"send", "--repo", "r", "--output", "xml", a}, 2, "--output"},
		"flag":             {[]string{"send", "--nope"}, 2, "--nope"},
		"no such file":     {[]string{"send", "--repo", "r", "/no/such/file"}, 1, "/no/such/file"},
		"too large":        {[]string{"send", "--repo", "r", file(t, "big", strings.Repeat("x", 8<<20+1))}, 1, "content"},
	} {
		if r := cli(t, "", x.args...); r.code != x.code || !strings.Contains(r.err, x.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// What comes before a failure is sent, and said; what comes after is not.
	r = cli(t, "", "send", "--repo", "partly", a, "/no/such/file", b)
	if r.code != 1 || r.out != "partly 1\n" {
		t.Errorf("a failure in the middle: %+v", r)
	}
}

func TestWork(t *testing.T) {
	startNode(t)
	for _, content := range []string{"exit 65", "good", "exit 3"} {
		args := []string{"send", "--repo", "acme/" + strings.Fields(content)[0], "--id", content, "--meta", "branch=main", "--meta", "Path=evil", "--meta", "PATH=worse", "--meta", "a-b=c", "--meta", "ld preload=x"}
		if r := cli(t, content, args...); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	out := filepath.Join(t.TempDir(), "seen")
	t.Setenv(childOutput, out)
	t.Setenv("WAYSTATION_META_STALE", "of a packet around us")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if r := cli(t, "", "work", "--group", "ci", "--exit-when-empty", "--concurrency", "2", "--", exe); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var s seen
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		count[s.Content]++
		want := map[string]string{
			"WAYSTATION_REPO": "acme/" + strings.Fields(s.Content)[0], "WAYSTATION_PACKET_ID": s.Content, "WAYSTATION_GROUP": "ci",
			"WAYSTATION_ATTEMPT": fmt.Sprint(count[s.Content]), "WAYSTATION_META_BRANCH": "main", "WAYSTATION_META_PATH": "worse",
			"WAYSTATION_METADATA_JSON": `{"PATH":"worse","Path":"evil","a-b":"c","branch":"main","ld preload":"x"}`, "PATH": os.Getenv("PATH"),
		}
		for k, v := range want {
			if s.Env[k] != v {
				t.Errorf("%s: %s is %q, want %q", s.Content, k, s.Env[k], v)
			}
		}
		for k := range s.Env {
			if strings.HasPrefix(k, "WAYSTATION_META_") && k != "WAYSTATION_META_BRANCH" && k != "WAYSTATION_META_PATH" {
				t.Errorf("%s: %s is set", s.Content, k)
			}
		}
		if s.Env["WAYSTATION_LEASE_TOKEN"] == "" || s.Env["WAYSTATION_SEQUENCE"] == "" {
			t.Errorf("%s: %v", s.Content, s.Env)
		}
	}
	if count["good"] != 1 || count["exit 65"] != 1 || count["exit 3"] != 5 {
		t.Errorf("attempts: %v", count)
	}
	r := cli(t, "", "dead", "list", "--group", "ci", "--output", "json")
	var page struct {
		Dead []struct {
			PacketID  string `json:"packet_id"`
			Reason    string
			LastError string `json:"last_error"`
		}
	}
	if err := json.Unmarshal([]byte(r.out), &page); err != nil || len(page.Dead) != 2 {
		t.Fatalf("dead letters: %+v", r)
	}
	for _, d := range page.Dead {
		want := map[string]string{"exit 65": "rejected", "exit 3": "attempts"}[d.PacketID]
		if d.Reason != want || !strings.Contains(d.LastError, "because it says so") {
			t.Errorf("dead letter: %+v", d)
		}
	}
	if r := cli(t, "", "dead", "list", "--group", "ci"); r.code != 0 || len(r.lines()) != 3 {
		t.Errorf("dead letters: %+v", r)
	}
	if r := cli(t, "", "dead", "list", "--group", "ci", "--older-than", "1h"); r.code != 0 || len(r.lines()) != 1 {
		t.Errorf("dead letters of an hour ago: %+v", r)
	}
	if r := cli(t, "", "dead", "list", "--group", "ci", "--newer-than", "1h"); r.code != 0 || len(r.lines()) != 3 {
		t.Errorf("dead letters of the last hour: %+v", r)
	}
	if r := cli(t, "", "dead", "redrive", "--group", "ci", "--older-than", "1h"); r.code != 0 || r.out != "redriven: 0\n" {
		t.Errorf("redrive of an hour ago: %+v", r)
	}
	if r := cli(t, "", "dead", "redrive", "--group", "ci", "--reason", "attempts", "--rate", "100"); r.code != 0 || r.out != "redriven: 1\n" {
		t.Errorf("redrive: %+v", r)
	}
	if r := cli(t, "", "dead", "discard", "--group", "ci", "--all", "--output", "json"); r.code != 0 || !strings.Contains(r.out, `"discarded":"1"`) {
		t.Errorf("discard: %+v", r)
	}
	if r := cli(t, "", "dead", "list", "--group", "ci"); r.code != 0 || len(r.lines()) != 1 {
		t.Errorf("dead letters that are left: %+v", r)
	}
}

func TestWorkEndsAfterMax(t *testing.T) {
	startNode(t)
	for range 3 {
		if r := cli(t, "x", "send", "--repo", "acme/api"); r.code != 0 {
			t.Fatalf("send: %+v", r)
		}
	}
	out := filepath.Join(t.TempDir(), "seen")
	t.Setenv(childOutput, out)
	exe, _ := os.Executable()
	if r := cli(t, "", "work", "--group", "ci", "--max", "2", "--", exe); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	data, err := os.ReadFile(out)
	if err != nil || strings.Count(string(data), "\n") != 2 {
		t.Errorf("%v %s", err, data)
	}
}

func TestLooking(t *testing.T) {
	e := startNode(t)
	for i := range 12 {
		if r := cli(t, fmt.Sprintf("packet %d\n\x1b[31m", i), "send", "--repo", "acme/api"); r.code != 0 {
			t.Fatalf("send: %+v", r)
		}
	}
	r := cli(t, "", "status")
	if r.code != 0 || !strings.Contains(r.out, "waystation") || !strings.Contains(r.out, "4, 0 without a leader") || !strings.Contains(r.out, e.Addresses.GRPC) {
		t.Errorf("status: %+v", r)
	}
	r = cli(t, "", "status", "--output", "json")
	var cluster struct {
		Nodes []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(r.out), &cluster); err != nil || cluster.Nodes[0].ID != e.NodeID {
		t.Errorf("status: %+v", r)
	}
	if r = cli(t, "", "repo", "acme/api"); r.code != 0 || !strings.Contains(r.out, "head        12") {
		t.Errorf("repo: %+v", r)
	}
	if r = cli(t, "", "repo", "acme/api", "--output", "json"); r.code != 0 || !strings.Contains(r.out, `"head":"12"`) {
		t.Errorf("repo: %+v", r)
	}
	if r = cli(t, "", "repo", "acme/none"); r.code != 1 || !strings.Contains(r.err, "repo_id") {
		t.Errorf("no such repo: %+v", r)
	}
	r = cli(t, "", "tail", "acme/api")
	if r.code != 0 || len(r.lines()) != 10 || !strings.HasPrefix(r.lines()[0], "3\t") || !strings.HasPrefix(r.lines()[9], "12\t") {
		t.Errorf("tail: %+v", r)
	}
	if strings.ContainsRune(r.out, 0x1b) {
		t.Error("a packet drives the terminal")
	}
	if r = cli(t, "", "tail", "-n", "2", "acme/api"); len(r.lines()) != 2 {
		t.Errorf("tail -n 2: %+v", r)
	}
	if r = cli(t, "", "tail", "acme/none"); r.code != 1 {
		t.Errorf("tail of nothing: %+v", r)
	}
	for _, addr := range []string{e.Addresses.GRPC, e.Addresses.HTTP, "http://" + e.Addresses.HTTP} {
		if r = cli(t, "", "repo", "acme/api", "--addr", addr); r.code != 0 {
			t.Errorf("--addr %s: %+v", addr, r)
		}
		if r = cliEnv(t, "", map[string]string{"WAYSTATION_ADDR": addr}, "repo", "acme/api"); r.code != 0 {
			t.Errorf("WAYSTATION_ADDR=%s: %+v", addr, r)
		}
	}
	if r = cli(t, "x", "send", "--repo", "other", "--addr", e.Addresses.HTTP); r.code != 0 {
		t.Errorf("send to the HTTP address: %+v", r)
	}
}

func TestUsageAndReach(t *testing.T) {
	t.Chdir(t.TempDir()) // no node nearby
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	for name, x := range map[string]struct {
		args []string
		code int
		want string // on standard error, or output when the code is 0
	}{
		"help":               {[]string{"--help"}, 0, "--data-dir"},
		"help command":       {[]string{"help"}, 0, "Commands:"},
		"help of a command":  {[]string{"send", "--help"}, 0, "--repo"},
		"help of work":       {[]string{"work", "-h"}, 0, "-- CMD"},
		"help of dead":       {[]string{"dead", "--help"}, 0, "--group"},
		"version":            {[]string{"version"}, 0, config.Version()},
		"version as a flag":  {[]string{"--version"}, 0, config.Version()},
		"version as JSON":    {[]string{"version", "--output", "json"}, 0, `"version":"` + config.Version()},
		"unknown command":    {[]string{"serv"}, 2, "serv"},
		"serve":              {[]string{"serve"}, 2, "without a subcommand"},
		"group what":         {[]string{"group"}, 2, "want one of"},
		"group else":         {[]string{"group", "x"}, 2, "unknown command"},
		"group set nothing":  {[]string{"group", "set"}, 2, "want one group"},
		"help of group":      {[]string{"group", "--help"}, 0, "group set GROUP"},
		"help of group set":  {[]string{"group", "set", "--help"}, 0, "--order-policy"},
		"redrive nothing":    {[]string{"dead", "redrive", "--group", "ci"}, 2, "--all"},
		"redrive one of all": {[]string{"dead", "redrive", "--group", "ci", "--sequence", "3"}, 2, "--repo"},
		"discard of nobody":  {[]string{"dead", "discard", "--all"}, 2, "--group"},
		"discard by age":     {[]string{"dead", "discard", "--group", "ci", "--newer-than", "1h", "--addr", nobody}, 3, nobody},
		"dead what":          {[]string{"dead"}, 2, "want one of"},
		"dead else":          {[]string{"dead", "x"}, 2, "unknown command"},
		"dead without group": {[]string{"dead", "list"}, 2, "--group"},
		"work without group": {[]string{"work", "--", "true"}, 2, "--group"},
		"work without CMD":   {[]string{"work", "--group", "g"}, 2, "want a command"},
		"work, no dashes":    {[]string{"work", "--group", "g", "x", "--", "true"}, 2, "before --"},
		"work, no such CMD":  {[]string{"work", "--group", "g", "--", "/no/such/command"}, 2, "/no/such/command"},
		"repo without one":   {[]string{"repo"}, 2, "one repository"},
		"tail without one":   {[]string{"tail"}, 2, "one repository"},
		"bad address":        {[]string{"status", "--addr", "nowhere"}, 2, "HOST:PORT"},
		"nobody there":       {[]string{"status", "--addr", nobody}, 3, nobody},
		"bad settings":       {[]string{"--partitions", "0", "--lease", "1ms"}, 2, "--lease"},
		"beyond loopback":    {[]string{"--listen", "0.0.0.0:0"}, 2, "--insecure"},
		"unknown flag":       {[]string{"--nope"}, 2, "--nope"},
	} {
		r := cli(t, "", x.args...)
		text := r.err
		if x.code == 0 {
			text = r.out
		}
		if r.code != x.code || !strings.Contains(text, x.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestFlagsOfTheUsageText(t *testing.T) {
	text := usage()
	for _, c := range commands() {
		if !strings.Contains(text, "\n  "+c.name) {
			t.Errorf("%s is not in the usage text", c.name)
		}
	}
}

func TestLastBytes(t *testing.T) {
	l := &lastBytes{}
	for i := range 1000 {
		fmt.Fprintf(l, "line %d\n", i)
	}
	if _, err := l.Write(bytes.Repeat([]byte("é"), mostError)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(l, " the end\n")
	if got := l.text(); !strings.HasSuffix(got, "é the end") || len(got) > mostError/2+3 {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(len(got)-20, 0):])
	}
}
