package transport

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/internal/written"
)

// A node that was removed is down, and some group still has a replica there: each
// message to it has it dialled again, which nobody needs to be told of every time.
func TestFormerNodesAreNoNews(t *testing.T) {
	var log written.Text // of warnings and above
	w := newWorld(t)
	n := w.start(1, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	l := listen(t, "127.0.0.1:0")
	w.setAddress(nodeID(2), l.Addr().String())
	_ = l.Close() // nobody is there
	attempt := func() {
		n.Send(1, []*pb.Message{heartbeat(1, 2)})
		until(t, "a failure", func() bool { return n.status(2).Err != nil })
	}
	attempt()
	until(t, "a warning", func() bool { return strings.Count(log.String(), "no connection to peer") == 1 })
	for range 3 {
		n.Forget(nodeID(2))
		attempt()
	}
	n.Forget(nodeID(2))
	n.Connect(nodeID(2)) // it is one of the cluster again
	until(t, "another warning", func() bool { return strings.Count(log.String(), "no connection to peer") == 2 })
}

func TestWhichFailuresAreNoNews(t *testing.T) {
	for _, c := range []struct {
		err         error
		first, want bool
	}{
		{io.EOF, true, false},
		{io.EOF, false, true}, // the node is away: that was said
		{fmt.Errorf("dial: %w", errUnknownAddress), true, true},
		{&Refusal{Code: refusedNotMember, Theirs: true}, true, true},
		{&Refusal{Code: refusedCluster, Theirs: true}, true, false},
		{fmt.Errorf("connect: %w", &Refusal{Code: refusedRemoved, Theirs: true}), false, false},
		{errors.New("reset"), true, false},
	} {
		if got := passing(c.err, c.first); got != c.want {
			t.Errorf("%v, first %v: %v", c.err, c.first, got)
		}
	}
}
