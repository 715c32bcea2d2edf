package server_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/client"
)

// TestCallOnThreeNodes: a call finds its answer through any node, goes on when the leader
// that it waits at ends, and never runs twice, whoever makes it again.
func TestCallOnThreeNodes(t *testing.T) {
	t.Parallel()
	first := start(t, dataDir(t))
	nodes := []*node{first, start(t, dataDir(t), joining(first, "second")), start(t, dataDir(t), joining(first, "third"))}
	await(t, "three copies", func() bool { return replicated(first.describe(), 3) })
	c, err := client.Dial(t.Context(), nodes[0].Addresses.GRPC+","+nodes[1].Addresses.GRPC+","+nodes[2].Addresses.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first.pull("ci", `{"max":1}`) // makes the group
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	packet := &client.Packet{RepoID: "acme/api", PacketID: "ask-1", Content: []byte("what?")}
	var calls sync.WaitGroup
	for range 2 { // the second one meets the first in flight
		calls.Go(func() {
			x, err := c.Call(ctx, packet, "ci")
			if err != nil || string(x.Value) != "that" || x.Sequence != 1 || x.PacketID != "ask-1" {
				t.Errorf("call: %+v, %v", x, err)
			}
		})
	}
	var state struct {
		Partition int
		Head      string
	}
	await(t, "the packet", func() bool {
		return nodes[1].http("GET", "/v1/repos/acme/api", "", &state) == 200 && state.Head == "1"
	})
	leader := first.describe().GetPartitions()[state.Partition].GetLeader()
	var left []*node
	for _, n := range nodes {
		if n.NodeID == leader {
			n.stop()
		} else {
			left = append(left, n)
		}
	}
	if len(left) != 2 {
		t.Fatalf("%d nodes are left, and %s led", len(left), leader)
	}
	var d []delivery
	await(t, "the packet to be delivered", func() bool {
		var out struct {
			Deliveries []delivery `json:"deliveries"`
		}
		left[0].http("POST", "/v1/groups/ci/pull", `{"max":1,"wait_ms":2000,"worker":"w"}`, &out)
		d = out.Deliveries
		return len(d) == 1
	})
	body := `{"settlements":[{"repo_id":"acme/api","sequence":"` + d[0].Sequence + `","lease_token":"` + d[0].LeaseToken + `","outcome":"done","result":"dGhhdA=="}]}`
	await(t, "the settlement", func() bool {
		return left[1].http("POST", "/v1/groups/ci/settle", body, nil) == http.StatusOK
	})
	calls.Wait()
	if x, err := c.Call(ctx, packet, "ci"); err != nil || string(x.Value) != "that" || x.Sequence != 1 {
		t.Errorf("the same call again: %+v, %v", x, err)
	}
	for _, n := range left {
		var x struct{ State, Result string }
		if status := n.http("GET", "/v1/repos/acme/api/results/ask-1?group=ci", "", &x); status != 200 || x.Result != "dGhhdA==" {
			t.Errorf("result: %d %+v", status, x)
		}
	}
}

// TestCallThatDies: a caller hears that its packet is a dead letter, and once that is
// redriven, the same call is answered with what its next life came to.
func TestCallThatDies(t *testing.T) {
	n := start(t, dataDir(t))
	c, err := client.Dial(t.Context(), n.Addresses.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var work sync.WaitGroup
	life := 0
	work.Go(func() {
		err := c.Work(ctx, "ci", func(_ context.Context, d *client.Delivery) error {
			if life++; life == 1 {
				return client.Dead(errors.New("not like this"))
			}
			d.SetResult([]byte("well then"))
			return nil
		}, client.WithMaxPackets(2))
		if err != nil {
			t.Errorf("work: %v", err)
		}
	})
	packet := &client.Packet{RepoID: "acme/api", PacketID: "ask-1"}
	var dead *client.DeadError
	if x, err := c.Call(ctx, packet, "ci"); !errors.As(err, &dead) || dead.Reason != "rejected" || dead.LastError != "not like this" {
		t.Fatalf("call: %+v, %v", x, err)
	}
	if status := n.http("POST", "/v1/groups/ci/dead/redrive", `{}`, nil); status != 200 {
		t.Fatalf("redrive: %d", status)
	}
	if x, err := c.Call(ctx, packet, "ci"); err != nil || string(x.Value) != "well then" || x.Sequence != 2 {
		t.Errorf("the same call: %+v, %v", x, err)
	}
	work.Wait()
	if x, err := c.Result(ctx, "acme/api", 1, "ci"); err != nil || string(x.Value) != "well then" {
		t.Errorf("under its old number: %+v, %v", x, err)
	}
	if _, err := c.Result(ctx, "acme/api", 3, "ci"); client.ErrorCode(err) != client.CodeNotFound {
		t.Errorf("no such packet: %v", err)
	}
	if _, err := c.ResultID(ctx, "acme/api", "ask-2", "ci"); client.ErrorCode(err) != client.CodeNotFound {
		t.Errorf("no such id: %v", err)
	}
}
