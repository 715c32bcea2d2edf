package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/client"
)

// TestCall: the answer is on standard output as it is, a dead letter and a result that
// there is not are a no.
func TestCall(t *testing.T) {
	e := startNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, e.Addresses.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- c.Work(ctx, "ci", func(_ context.Context, d *client.Delivery) error {
			if string(d.Content) == "die" {
				return client.Dead(errors.New("as told"))
			}
			d.SetResult([]byte("re: " + string(d.Content)))
			return nil
		}, client.WithMaxPackets(2))
	}()
	r := cli(t, "question", "call", "--repo", "acme/api", "--group", "ci", "--id", "q1")
	if r.code != exitGood || r.out != "re: question" {
		t.Fatalf("call: %+v", r)
	}
	if r := cli(t, "question", "call", "--repo", "acme/api", "--group", "ci", "--id", "q1"); r.code != exitGood || r.out != "re: question" {
		t.Errorf("the same call: %+v", r)
	}
	for _, packet := range []string{"q1", "1"} {
		if r := cli(t, "", "result", "acme/api", packet, "--group", "ci"); r.code != exitGood || r.out != "re: question" {
			t.Errorf("result %s: %+v", packet, r)
		}
	}
	if r := cli(t, "die", "call", "--repo", "acme/api", "--group", "ci"); r.code != exitNo || r.out != "" || !strings.Contains(r.err, "rejected: as told") {
		t.Errorf("a dead letter: %+v", r)
	}
	if err := <-ended; err != nil {
		t.Fatalf("work: %v", err)
	}
	if r := cli(t, "", "result", "acme/api", "2", "--group", "ci", "--output", "json"); r.code != exitNo || !strings.Contains(r.out, `"reason": "rejected"`) && !strings.Contains(r.out, `"reason":"rejected"`) {
		t.Errorf("result of a dead letter: %+v", r)
	}
	if r := cli(t, "slow", "call", "--repo", "acme/api", "--group", "ci", "--wait", "50ms"); r.code == exitGood || r.out != "" {
		t.Errorf("nobody works: %+v", r)
	}
	if r := cli(t, "", "result", "acme/api", "1", "--group", "ci", "--by-id"); r.code != exitNo {
		t.Errorf("no such id: %+v", r)
	}
	for _, args := range [][]string{
		{"call", "--repo", "a"},
		{"call", "--group", "g"},
		{"call", "--repo", "a", "--group", "g", "x", "y"},
		{"result", "a", "1"},
		{"result", "a", "--group", "g"},
		{"group", "set", "ci", "--kind-result-ttl", "a=soon"},
	} {
		if r := cli(t, "", args...); r.code != exitUsage {
			t.Errorf("%v: %+v", args, r)
		}
	}
	r = cli(t, "", "group", "set", "ci", "--result-ttl", "2h", "--kind-result-ttl", "review=48h")
	if r.code != exitGood || !strings.Contains(r.out, "2h0m0s") || !strings.Contains(r.out, "48h0m0s") {
		t.Errorf("group set: %+v", r)
	}
	if r := cli(t, "", "group", "set", "ci", "--kind-result-ttl", "review=0s"); r.code != exitGood || strings.Contains(r.out, "review") {
		t.Errorf("group set, taken back: %+v", r)
	}
	if r := cli(t, "", "group", "set", "ci", "--result-ttl", "1ms"); r.code == exitGood || !strings.Contains(r.err, "result_ttl") {
		t.Errorf("too short: %+v", r)
	}
}
