package cli

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// electing describes a cluster of one partition that has a leader from the given
// question on.
type electing struct {
	waystationv1.UnimplementedWaystationServer
	from  int64
	asked atomic.Int64
}

func (e *electing) DescribeCluster(context.Context, *waystationv1.DescribeClusterRequest) (*waystationv1.DescribeClusterResponse, error) {
	p := &waystationv1.Partition{Id: 1}
	if e.asked.Add(1) >= e.from {
		p.Leader, p.DurableCopies = "one", 2
	}
	return &waystationv1.DescribeClusterResponse{Name: "waystation", Partitions: []*waystationv1.Partition{p}}, nil
}

func startElecting(t *testing.T, from int64) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	waystationv1.RegisterWaystationServer(s, &electing{from: from})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

func TestStatusWaitsForLeaders(t *testing.T) {
	if r := cli(t, "", "status", "--addr", startElecting(t, 3)); r.code != 1 || !strings.Contains(r.out, "1, 1 without a leader") {
		t.Errorf("at once: %+v", r)
	}
	if r := cli(t, "", "status", "--wait", "50s", "--addr", startElecting(t, 3)); r.code != 0 || !strings.Contains(r.out, "1, 0 without a leader") {
		t.Errorf("waiting: %+v", r)
	}
	if r := cli(t, "", "status", "--wait", "1ms", "--addr", startElecting(t, 1<<62)); r.code != 1 || !strings.Contains(r.out, "1, 1 without a leader") {
		t.Errorf("waiting in vain: %+v", r)
	}
	if r := cli(t, "", "status", "--wait", "50s", "--copies", "2", "--addr", startElecting(t, 3)); r.code != 0 || !strings.Contains(r.out, "durable copies  2") {
		t.Errorf("waiting for two copies: %+v", r)
	}
	if r := cli(t, "", "status", "--copies", "3", "--addr", startElecting(t, 1)); r.code != 1 || !strings.Contains(r.out, "durable copies  2") {
		t.Errorf("a copy is missing: %+v", r)
	}
	if r := cli(t, "", "status", "--wait", "-1s"); r.code != 2 || !strings.Contains(r.err, "--wait") {
		t.Errorf("a time below zero: %+v", r)
	}
}
