package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// joining makes a node join another one.
func joining(first *node, name string) func(*config.Config) {
	return func(c *config.Config) { c.Name, c.Join = name, first.Addresses.Gossip }
}

func (n *node) describe() *waystationv1.DescribeClusterResponse {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	d, err := n.rpc.DescribeCluster(ctx, &waystationv1.DescribeClusterRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// replicated says whether every partition is on want voters, and led.
func replicated(d *waystationv1.DescribeClusterResponse, want int) bool {
	for _, p := range d.GetPartitions() {
		if len(p.GetVoters()) != want || p.GetLeader() == "" || int(p.GetDurableCopies()) != want {
			return false
		}
	}
	return true
}

// TestThreeNodesBecomeACluster: nodes that join get copies of everything, and
// what one has taken is on all of them.
func TestThreeNodesBecomeACluster(t *testing.T) {
	first := start(t, dataDir(t))
	for i := range 8 {
		first.publish(fmt.Sprintf("acme/r%d", i), "before")
	}
	second := start(t, dataDir(t), joining(first, "second"))
	await(t, "learners on the second node", func() bool {
		for _, p := range first.describe().GetPartitions() {
			if len(p.GetVoters()) != 1 || len(p.GetLearners()) != 1 {
				return false
			}
		}
		return true
	})
	third := start(t, dataDir(t), joining(first, "third"))
	await(t, "three voters for each partition", func() bool { return replicated(third.describe(), 3) })
	cluster := clusterID(first)
	await(t, "the second node to know all of it", func() bool { return shared(second.describe(), cluster, 3) })
	anyNode(t, 8, first, second, third)
	pins(t, first, second, third)
}

// shared says whether a cluster's nodes are up, so many, each with a replica of
// every partition, and each partition has one leader.
func shared(d *waystationv1.DescribeClusterResponse, cluster string, nodes int) bool {
	leaders := 0
	for _, n := range d.GetNodes() {
		if n.GetState() != "up" || int(n.GetReplicas()) != len(d.GetPartitions()) {
			return false
		}
		leaders += int(n.GetLeaders())
	}
	return d.GetClusterId() == cluster && len(d.GetNodes()) == nodes && leaders == len(d.GetPartitions())
}

// anyNode works off over plain HTTP what is in so many repositories: pulled at one
// node, settled at another, looked at on a third, wherever their leaders are.
func anyNode(t *testing.T, repos int, asked, pulled, settled *node) {
	t.Helper()
	done := map[string]bool{}
	await(t, "all repositories to be worked off", func() bool {
		var out struct {
			Deliveries []delivery `json:"deliveries"`
		}
		pulled.http("POST", "/v1/groups/plain/pull", `{"max":32,"wait_ms":1000,"worker":"py"}`, &out)
		for _, d := range out.Deliveries {
			if d.settle(settled, "plain", "done", nil) == http.StatusOK {
				done[d.RepoID] = true
			}
		}
		return len(done) == repos
	})
	for repo := range done {
		await(t, repo+" to be settled", func() bool {
			var state struct {
				Backlog string `json:"backlog"`
			}
			return asked.http("GET", "/v1/repos/"+repo, "", &state) == http.StatusOK && state.Backlog == "0"
		})
	}
}

// pins publishes with the client library, which is given the first node's address,
// until no packet takes a hop between the nodes.
func pins(t *testing.T, nodes ...*node) {
	t.Helper()
	c, err := client.Dial(t.Context(), nodes[0].Addresses.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	forwarded := func() (sum int) {
		for _, n := range nodes {
			sum += n.forwarded()
		}
		return sum
	}
	await(t, "packets to go to their leaders", func() bool {
		before := forwarded()
		for i := range 64 {
			if _, err := c.Publish(t.Context(), &client.Packet{RepoID: fmt.Sprintf("pinned/r%d", i)}); err != nil {
				t.Fatal(err)
			}
		}
		return forwarded() == before
	})
}

// forwarded is how many packets the node has passed on to others.
func (n *node) forwarded() (packets int) {
	n.t.Helper()
	resp, err := http.Get("http://" + n.Addresses.HTTP + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	const name = "\nwaystation_route_forwarded_packets_total "
	_, after, ok := strings.Cut(string(body), name)
	if _, err := fmt.Sscan(after, &packets); err != nil || !ok {
		n.t.Fatalf("no metric %q: %v", name, err)
	}
	return packets
}

// refusal runs a node with flags and returns why it ended.
func refusal(t *testing.T, flags ...string) error {
	t.Helper()
	return refusalWith(t, server.Hooks{}, flags...)
}

func refusalWith(t *testing.T, hooks server.Hooks, flags ...string) error {
	t.Helper()
	base := []string{
		"--data-dir", dataDir(t), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0",
		"--memory-limit", "256MiB", "--partitions", "4",
	}
	c, err := config.Load(append(base, flags...), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return server.RunWith(ctx, c, io.Discard, slog.New(slog.DiscardHandler), hooks)
}

// TestNamesOfOneMachine: a node that nobody named finds a name of its own, and
// keeps it.
func TestNamesOfOneMachine(t *testing.T) {
	first := start(t, dataDir(t))
	dir := dataDir(t)
	for range 2 {
		second := start(t, dir, joining(first, "test"))
		if second.Name != "test-2" {
			t.Errorf("the second node is called %q", second.Name)
		}
		second.stop()
	}
}
