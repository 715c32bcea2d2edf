package peers

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type node struct {
	peerv1.UnimplementedPeerServer
	name string
}

func (n *node) Info(context.Context, *peerv1.InfoRequest) (*peerv1.InfoResponse, error) {
	return &peerv1.InfoResponse{NodeName: n.name}, nil
}

func serve(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	peerv1.RegisterPeerServer(s, &node{name: name})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func info(t *testing.T, p *Pool, addr string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	peer, err := p.Peer(addr)
	if err != nil {
		return "", err
	}
	a, err := peer.Info(ctx, &peerv1.InfoRequest{})
	return a.GetNodeName(), err
}

func TestPool(t *testing.T) {
	a, b := serve(t, "a"), serve(t, "b")
	p := NewPool(nil)
	defer p.Close()
	for addr, want := range map[string]string{a: "a", b: "b"} {
		if got, err := info(t, p, addr); got != want || err != nil {
			t.Errorf("%s answers %q, %v", addr, got, err)
		}
	}
	held, err := p.Conn(a)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := p.Conn(a); again != held {
		t.Error("one address has two connections")
	}
	p.Keep(map[string]bool{b: true})
	if _, err := peerv1.NewPeerClient(held).Info(t.Context(), &peerv1.InfoRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("a connection that is not kept answers %v", err)
	}
	for addr, want := range map[string]string{a: "a", b: "b"} {
		if got, err := info(t, p, addr); got != want || err != nil {
			t.Errorf("%s answers %q, %v", addr, got, err)
		}
	}
}

func TestClosedPool(t *testing.T) {
	p := NewPool(nil)
	p.Close()
	p.Close()
	if _, err := info(t, p, "127.0.0.1:1"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
