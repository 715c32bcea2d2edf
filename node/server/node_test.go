package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/internal/leak"
	"github.com/waystation/waystation/internal/written"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// childNode is the variable that makes the test binary a node on the named data
// folder: locks and ports are between processes.
const childNode = "WAYSTATION_TEST_NODE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childNode); dir != "" {
		os.Exit(child(dir))
	}
	leak.Main(m)
}

func child(dir string) int {
	cfg := testConfig(dir)
	if addr := os.Getenv(childNode + "_HTTP"); addr != "" {
		cfg.HTTP = addr
	}
	if gossip := strings.Split(os.Getenv(childNode+"_EXPECT"), ","); len(gossip) == 3 {
		expecting(gossip, 0)(&cfg)
	}
	if ports := strings.Split(os.Getenv(childNode+"_AUTO"), ","); len(ports) == 4 {
		cfg.Join, cfg.Listen, cfg.HTTP, cfg.Gossip, cfg.Peer = "auto", ports[0], ports[1], ports[2], ports[3]
	}
	if err := server.Run(context.Background(), cfg, os.Stdout, slog.New(slog.DiscardHandler)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// testConfig is a node on free ports.
func testConfig(dir string) config.Config {
	cfg := config.Default()
	cfg.Name, cfg.DataDir, cfg.Listen, cfg.HTTP = "test", dir, "127.0.0.1:0", "127.0.0.1:0"
	cfg.Gossip, cfg.Peer, cfg.Join = "127.0.0.1:0", "127.0.0.1:0", "none"
	cfg.MemoryLimit = 256 * config.MiB
	cfg.Partitions = 4
	cfg.Limits.DiskReserve = 0
	return cfg
}

// node is one life of a node in this process.
type node struct {
	config.Endpoints
	t      testing.TB
	dir    string
	conn   *grpc.ClientConn
	rpc    waystationv1.WaystationClient
	banner bytes.Buffer
	said   written.Text // warnings
	cancel context.CancelFunc
	ended  chan error
	once   sync.Once
}

// start runs a node on dir until the test ends.
func start(t testing.TB, dir string, change ...func(*config.Config)) *node {
	t.Helper()
	return startWith(t, dir, server.Hooks{}, change...)
}

func startWith(t testing.TB, dir string, hooks server.Hooks, change ...func(*config.Config)) *node {
	t.Helper()
	return launch(t, dir, hooks, change...).ready()
}

// launch begins a node, which is not ready yet.
func launch(t testing.TB, dir string, hooks server.Hooks, change ...func(*config.Config)) *node {
	t.Helper()
	cfg := testConfig(dir)
	for _, f := range change {
		f(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{t: t, dir: dir, cancel: cancel, ended: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(testWriter{t}, &n.said), &slog.HandlerOptions{Level: slog.LevelWarn}))
	go func() { n.ended <- server.RunWith(ctx, cfg, &n.banner, log, hooks) }()
	t.Cleanup(n.stop)
	return n
}

// ready waits until the node serves.
func (n *node) ready() *node {
	n.t.Helper()
	await(n.t, "the endpoints file", func() bool {
		select {
		case err := <-n.ended:
			n.ended <- err
			n.t.Fatalf("the node ended: %v", err)
		default:
		}
		e, err := config.ReadEndpoints(n.dir)
		if err == nil {
			n.Endpoints = *e
		}
		return err == nil
	})
	n.connect()
	return n
}

// connect opens the node's API.
func (n *node) connect() {
	n.t.Helper()
	var err error
	n.conn, err = grpc.NewClient(n.Addresses.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.rpc = waystationv1.NewWaystationClient(n.conn)
}

// end waits until the node ends by itself, and returns why.
func (n *node) end() (err error) {
	n.t.Helper()
	n.once.Do(func() {
		n.conn.Close()
		limit := time.NewTimer(time.Minute)
		defer limit.Stop()
		select {
		case err = <-n.ended:
		case <-limit.C:
			n.cancel()
			<-n.ended
			n.t.Error("the node went on for a minute")
		}
	})
	return err
}

// stop ends the node as SIGTERM would, and checks that it ends well.
func (n *node) stop() {
	n.once.Do(func() {
		if n.conn != nil {
			n.conn.Close()
		}
		http.DefaultClient.CloseIdleConnections()
		n.cancel()
		if err := <-n.ended; err != nil {
			n.t.Errorf("stop: %v", err)
		}
	})
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// http makes a request, and reads the answer into out when that is not nil.
func (n *node) http(method, path, body string, out any, headers ...string) int {
	n.t.Helper()
	req, err := http.NewRequest(method, "http://"+n.Addresses.HTTP+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			n.t.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
	return resp.StatusCode
}

type fault struct {
	Error struct {
		Code    string `json:"code"`
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"error"`
}

type receipt struct {
	Sequence  string `json:"sequence"`
	Duplicate bool   `json:"duplicate"`
	Differs   bool   `json:"content_differs"`
}

// publish sends content over HTTP, and wants a receipt. While the partition has no
// leader, or its leader went before it answered, it sends again as the error says:
// under the same id, one of its own if headers name none.
func (n *node) publish(repo, content string, headers ...string) receipt {
	n.t.Helper()
	const packetID = "Waystation-Packet-Id"
	own := !slices.Contains(headers, packetID)
	if own {
		headers = append(headers, packetID, rand.Text())
	}
	var r receipt
	await(n.t, "a receipt for "+repo, func() bool {
		var answer struct {
			receipt
			fault
		}
		status := n.http("POST", "/v1/repos/"+repo+"/packets", content, &answer, headers...)
		if status != 200 && status != 503 {
			n.t.Fatalf("publish: status %d %+v", status, answer.Error)
		}
		r = answer.receipt
		return status == 200
	})
	if own {
		r.Duplicate = false // of a try whose outcome was unknown
	}
	return r
}

type delivery struct {
	RepoID      string `json:"repo_id"`
	Sequence    string `json:"sequence"`
	Content     []byte `json:"content"`
	Attempt     int    `json:"attempt"`
	LeaseToken  string `json:"lease_token"`
	Redelivered bool   `json:"redelivered"`
}

func (n *node) pull(group, body string) []delivery {
	n.t.Helper()
	var out struct {
		Deliveries []delivery `json:"deliveries"`
	}
	if status := n.http("POST", "/v1/groups/"+group+"/pull", body, &out); status != 200 {
		n.t.Fatalf("pull: status %d", status)
	}
	return out.Deliveries
}

// take pulls until it has so many packets, which may be of several partitions. more
// is further fields of each request.
func (n *node) take(group string, want int, more string) (got []delivery) {
	n.t.Helper()
	await(n.t, fmt.Sprintf("%d packets for %s", want, group), func() bool {
		got = append(got, n.pull(group, fmt.Sprintf(`{"max":%d,"wait_ms":5000%s}`, want-len(got), more))...)
		return len(got) >= want
	})
	return got
}

// operate does something to the cluster. While the change cannot be made, or may
// have been, for want of a leader, it is tried again, as its error says.
func (n *node) operate(do func(context.Context) error) (err error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	await(n.t, "a leader to change the cluster", func() bool {
		err = do(ctx)
		return status.Code(err) != codes.Unavailable
	})
	return err
}

func (d *delivery) settle(n *node, group, outcome string, out any) int {
	n.t.Helper()
	return n.http("POST", "/v1/groups/"+group+"/settle", fmt.Sprintf(
		`{"settlements":[{"repo_id":%q,"sequence":%q,"lease_token":%q,"outcome":%q}]}`, d.RepoID, d.Sequence, d.LeaseToken, outcome), out)
}

// await waits for a condition.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func dataDir(t testing.TB) string { return filepath.Join(t.TempDir(), "waystation-data") }
