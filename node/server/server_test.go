package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
)

func TestPublishAndWorkOff(t *testing.T) {
	n := start(t, dataDir(t))
	if got := n.publish("acme/api", "one"); got.Sequence != "1" {
		t.Fatalf("receipt %+v", got)
	}
	n.publish("acme/api", "two", "Waystation-Packet-Id", "p2")
	if got := n.publish("acme/api", "two", "Waystation-Packet-Id", "p2"); got.Sequence != "2" || !got.Duplicate || got.Differs {
		t.Errorf("resend: %+v", got)
	}
	if got := n.publish("acme/api", "other", "Waystation-Packet-Id", "p2"); got.Sequence != "2" || !got.Differs {
		t.Errorf("same id, other content: %+v", got)
	}
	got := n.take("ci", 2, "")
	if len(got) != 2 || string(got[0].Content) != "one" || string(got[1].Content) != "two" || got[0].LeaseToken == "" {
		t.Fatalf("deliveries: %+v", got)
	}
	if status := got[0].settle(n, "ci", "done", nil); status != 200 {
		t.Errorf("settle: %d", status)
	}
	var lookup struct {
		Groups []struct{ Group, State string }
	}
	n.http("GET", "/v1/repos/acme/api/packets/1", "", &lookup)
	if len(lookup.Groups) != 1 || lookup.Groups[0].State != "done" {
		t.Errorf("state: %+v", lookup)
	}
	got[1].settle(n, "ci", "dead", nil)
	var dead struct {
		Dead []struct {
			Sequence string
			Reason   string
			PacketID string `json:"packet_id"`
		}
	}
	n.http("GET", "/v1/groups/ci/dead", "", &dead)
	if len(dead.Dead) != 1 || dead.Dead[0].Reason != "rejected" || dead.Dead[0].PacketID != "p2" {
		t.Errorf("dead letters: %+v", dead)
	}
}

func TestBannerAndEndpoints(t *testing.T) {
	n := start(t, dataDir(t))
	if n.PID != os.Getpid() || n.DataDir != n.dir || n.Version == "" || n.NodeID == "" {
		t.Errorf("endpoints: %+v", n.Endpoints)
	}
	var cluster struct {
		ID         string `json:"cluster_id"`
		Name       string
		Nodes      []struct{ ID, Name, State string }
		Partitions []struct {
			Leader        string
			DurableCopies int `json:"durable_copies"`
		}
	}
	n.http("GET", "/v1/cluster", "", &cluster)
	if cluster.Name != "waystation" || len(cluster.ID) != 32 || len(cluster.Nodes) != 1 || cluster.Nodes[0].State != "up" || len(cluster.Partitions) != 4 {
		t.Errorf("cluster: %+v", cluster)
	}
	for i, p := range cluster.Partitions {
		if p.Leader != n.NodeID || p.DurableCopies != 1 {
			t.Errorf("partition %d: %+v", i, p)
		}
	}
	h, err := healthv1.NewHealthClient(n.conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || h.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("gRPC health: %v, %v", h, err)
	}
	reflected, err := reflectionv1.NewServerReflectionClient(n.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := reflected.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: waystationv1.Waystation_ServiceDesc.ServiceName,
	}}); err != nil {
		t.Fatal(err)
	}
	if r, err := reflected.Recv(); err != nil || len(r.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection: %v, %v", r, err)
	}
	n.stop()
	for _, want := range []string{fmt.Sprint(os.Getpid()), n.Addresses.GRPC, n.Addresses.HTTP, n.dir, n.Version} {
		if !strings.Contains(n.banner.String(), want) {
			t.Errorf("%q is not in the banner:\n%s", want, n.banner.String())
		}
	}
	if _, err := os.Stat(filepath.Join(n.dir, config.EndpointsFile)); !os.IsNotExist(err) {
		t.Errorf("endpoints file after a clean stop: %v", err)
	}
}

// TestRestart: everything is there again, leases and settings included, and
// numbers and tokens go on.
func TestRestart(t *testing.T) {
	dir := dataDir(t)
	n := start(t, dir, func(c *config.Config) { c.Seed.MaxAttempts = 2 })
	for i := range 20 {
		n.publish(fmt.Sprintf("acme/r%d", i), "x", "Waystation-Packet-Id", "p")
	}
	held := n.take("ci", 1, `,"worker":"me"`)
	id, cluster := n.NodeID, clusterID(n)
	epoch, err := n.rpc.OpenProducer(t.Context(), &waystationv1.OpenProducerRequest{Producer: "tool"})
	if err != nil || epoch.GetEpoch() != 1 {
		t.Fatalf("epoch %v, %v", epoch, err)
	}
	n.stop()

	n = start(t, dir, func(c *config.Config) { c.Seed.MaxAttempts, c.Partitions, c.ClusterName = 9, 8, "other" })
	if n.NodeID != id || clusterID(n) != cluster {
		t.Error("another node or cluster on the same folder")
	}
	for i := range 20 {
		if got := n.publish(fmt.Sprintf("acme/r%d", i), "x", "Waystation-Packet-Id", "p"); got.Sequence != "1" || !got.Duplicate {
			t.Fatalf("resend: %+v", got)
		}
	}
	again := n.take("ci", 1, `,"worker":"me"`)
	if len(again) != 1 || !again[0].Redelivered || again[0].LeaseToken != held[0].LeaseToken {
		t.Fatalf("redelivery: %+v, was %+v", again, held)
	}
	if status := again[0].settle(n, "ci", "done", nil); status != 200 {
		t.Errorf("settle after the restart: %d", status)
	}
	epoch, err = n.rpc.OpenProducer(t.Context(), &waystationv1.OpenProducerRequest{Producer: "tool"})
	if err != nil || epoch.GetEpoch() != 2 {
		t.Errorf("epoch %v, %v", epoch, err)
	}
	position := func(epoch uint64) error {
		_, err := n.rpc.Publish(t.Context(), &waystationv1.PublishRequest{Packet: &waystationv1.CodePacket{
			RepoId: "acme/p", Position: &waystationv1.Position{Producer: "tool", Epoch: epoch, Sequence: 1},
		}})
		return err
	}
	if err := position(2); err != nil {
		t.Errorf("the newest epoch: %v", err)
	}
	if err := position(1); reason(err) != "FENCED" || fieldOf(err) != "position.epoch" {
		t.Errorf("an old epoch: %v", err)
	}
}

func clusterID(n *node) string {
	var c struct {
		ID string `json:"cluster_id"`
	}
	n.http("GET", "/v1/cluster", "", &c)
	return c.ID
}

// TestDrainTellsAndFinishes: streams are told, what is in flight is finished, and
// the whole does not wait for its limit.
func TestDrainTellsAndFinishes(t *testing.T) {
	n := start(t, dataDir(t), func(c *config.Config) { c.DrainTimeout = distant })
	n.publish("acme/api", "x")
	work, err := n.rpc.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := work.Send(&waystationv1.WorkRequest{Open: &waystationv1.WorkOpen{Group: "ci", Credit: 1}}); err != nil {
		t.Fatal(err)
	}
	var d *waystationv1.Delivery
	for d == nil {
		resp, err := work.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.GetDeliveries()) > 0 {
			d = resp.GetDeliveries()[0]
		}
	}
	publish, err := n.rpc.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := publish.Send(&waystationv1.PublishStreamRequest{Packets: []*waystationv1.CodePacket{{RepoId: "acme/api"}}}); err != nil {
		t.Fatal(err)
	}
	answer, err := publish.Recv()
	for err == nil && len(answer.GetResults()) == 0 { // it says who leads what
		answer, err = publish.Recv()
	}
	if err != nil || answer.GetResults()[0].GetReceipt().GetSequence() != 2 {
		t.Fatalf("%v, %v", answer, err)
	}
	begin := time.Now()
	n.cancel()
	for {
		resp, err := work.Recv()
		if err != nil {
			t.Fatalf("before draining was said: %v", err)
		}
		if resp.GetDraining() {
			break
		}
	}
	// The worker holds a packet: the node still answers, and says why it is not ready.
	var health struct{ Reason string }
	if status := n.http("GET", "/readyz", "", &health); status != 503 || health.Reason != "draining" {
		t.Errorf("readyz: %d %q", status, health.Reason)
	}
	if status := n.http("POST", "/v1/repos/acme/api/packets", "late", nil); status != 503 {
		t.Errorf("publish while draining: %d", status)
	}
	if _, err := publish.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("publish stream: %v", err)
	}
	if err := work.Send(&waystationv1.WorkRequest{Settlements: []*waystationv1.Settlement{{
		RepoId: "acme/api", Sequence: d.GetSequence(), LeaseToken: d.GetLeaseToken(), Outcome: waystationv1.Outcome_DONE,
	}}}); err != nil {
		t.Fatal(err)
	}
	resp, err := work.Recv()
	if err != nil || len(resp.GetSettlements()) != 1 || resp.GetSettlements()[0].GetError() != nil {
		t.Errorf("settlement while draining: %v, %v", resp, err)
	}
	n.stop()
	if took := time.Since(begin); took > distant/2 {
		t.Errorf("the drain took %v", took)
	}
}

// distant is a limit that nothing gets to but what waits for it.
const distant = 10 * time.Minute

// TestDrainHasAnEnd: a worker that never settles does not hold the node up.
func TestDrainHasAnEnd(t *testing.T) {
	n := start(t, dataDir(t), func(c *config.Config) { c.DrainTimeout = time.Second })
	n.publish("acme/api", "x")
	work, err := n.rpc.Work(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := work.Send(&waystationv1.WorkRequest{Open: &waystationv1.WorkOpen{Group: "ci", Credit: 1}}); err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := work.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.GetDeliveries()) > 0 {
			break
		}
	}
	n.cancel()
	select {
	case err := <-n.ended:
		n.ended <- err
	case <-time.After(time.Minute):
		t.Fatal("the node does not end")
	}
}

// run runs the test binary as a node, and returns how it ended.
func run(t *testing.T, dir string, env ...string) (code int, stderr string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(append(os.Environ(), childNode+"="+dir), env...)
	var out strings.Builder
	cmd.Stderr = &out
	err = cmd.Run()
	if ctx.Err() != nil {
		t.Fatal("the second node runs")
	}
	if err == nil {
		return 0, out.String()
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func TestSecondNodeOnTheSameDataFolder(t *testing.T) {
	n := start(t, dataDir(t))
	code, stderr := run(t, n.dir)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{n.dir, fmt.Sprint(os.Getpid()), "--data-dir", "folder of its own"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in: %s", want, stderr)
		}
	}
	n.publish("acme/api", "the first one goes on")
}

func TestSecondNodeOnTheSamePort(t *testing.T) {
	n := start(t, dataDir(t))
	code, stderr := run(t, dataDir(t), childNode+"_HTTP="+n.Addresses.HTTP)
	if code != 1 || !strings.Contains(stderr, "--http "+n.Addresses.HTTP) || !strings.Contains(stderr, "in use") || !strings.Contains(stderr, "another port") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestNewerFormat: a folder of a newer version is left alone.
func TestNewerFormat(t *testing.T) {
	n := start(t, dataDir(t))
	n.publish("acme/api", "x")
	n.stop()
	changed := 0
	for _, store := range []string{"log", "state"} {
		path := filepath.Join(n.dir, store, "FORMAT")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The last number of the file is the version.
		text := strings.TrimRight(string(data), "\n")
		cut := strings.LastIndexAny(text, " =:") + 1
		if err := os.WriteFile(path, []byte(text[:cut]+"99\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		changed++
		code, stderr := run(t, n.dir)
		if code != 1 || !strings.Contains(stderr, n.dir) || !strings.Contains(stderr, "99") {
			t.Errorf("%s: exit code %d: %s", store, code, stderr)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if changed != 2 {
		t.Fatal("nothing was tried")
	}
	n = start(t, n.dir)
	if got := n.publish("acme/api", "y"); got.Sequence != "2" {
		t.Errorf("after it was put back: %+v", got)
	}
}

func TestMetrics(t *testing.T) {
	n := start(t, dataDir(t))
	n.publish("acme/api", "x", "Waystation-Packet-Id", "p")
	n.publish("acme/api", "x", "Waystation-Packet-Id", "p")
	n.http("POST", "/v1/repos/acme/api/packets", "x", nil, "Waystation-Kind", strings.Repeat("x", 99))
	d := n.take("ci", 1, "")
	d[0].settle(n, "ci", "dead", nil)
	resp, err := http.Get("http://" + n.Addresses.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`waystation_queue_depth{group="ci",priority="normal"}`, `waystation_process_duration_seconds_count{group="ci"}`,
		"waystation_publish_duration_seconds_count", `waystation_delivery_duration_seconds_count{group="ci"}`,
		"waystation_fsync_duration_seconds_count", "waystation_batch_packets_count", `waystation_refusals_total{reason="invalid"} 1`,
		`waystation_dead_letters_total{group="ci",reason="rejected"} 1`, "waystation_deduplicated_total 1",
		"waystation_intake_bytes", "waystation_disk_free_bytes", "waystation_actors_active", "waystation_actor_restarts_total 0",
		"go_goroutines",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s is not there", want)
		}
	}
	if strings.Contains(string(body), "acme") {
		t.Error("a metric names a repository")
	}
}

// TestDiskReserve: with too little disk packets are refused, and what makes room
// goes on.
func TestDiskReserve(t *testing.T) {
	dir := dataDir(t)
	n := start(t, dir)
	n.publish("acme/api", "x")
	n.stop()
	n = start(t, dir, func(c *config.Config) { c.Limits.DiskReserve = 1000 * config.TiB })
	var f fault
	if status := n.http("POST", "/v1/repos/acme/api/packets", "y", &f); status != 429 || !strings.Contains(f.Error.Message, "disk") {
		t.Errorf("publish: %d %+v", status, f)
	}
	d := n.take("ci", 1, "")
	if len(d) != 1 || d[0].settle(n, "ci", "done", nil) != 200 {
		t.Errorf("work goes on: %+v", d)
	}
}
