package cli

import (
	"bytes"
	"context"
	"errors"
	"log"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// hung returns the address of a node that hangs: the system takes connections for
// it, and nobody speaks on them.
func hung(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// TestHungNodeHoldsNobodyUp: it is named first, and the commands use the other one.
func TestHungNodeHoldsNobodyUp(t *testing.T) {
	e, stuck := startNode(t), hung(t)
	for _, x := range []struct {
		addr, in string
		args     []string
	}{
		{e.Addresses.GRPC, "x", []string{"send", "--repo", "acme/api"}},
		{e.Addresses.GRPC, "", []string{"status"}},
		{e.Addresses.HTTP, "", []string{"repo", "acme/api"}},
	} {
		both := stuck + "," + x.addr
		if r := cli(t, x.in, append(x.args, "--addr", both)...); r.code != 0 {
			t.Errorf("%v at %s: %+v", x.args, both, r)
		}
	}
}

// TestHungNodeNearby: of several nodes that are found, the one that answers is asked.
func TestHungNodeNearby(t *testing.T) {
	e, stuck := startNode(t), hung(t)
	found, err := targets(t.Context(), Streams{Getenv: func(string) (string, bool) { return "", false }}, "")
	if err != nil || len(found) == 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	n, err := lookAmong(t.Context(), []string{stuck, e.Addresses.GRPC})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	if n.addr != e.Addresses.GRPC {
		t.Errorf("asks %s, which hangs", n.addr)
	}
}

// TestNobodyAnswers: all that is named hangs, or is not there.
func TestNobodyAnswers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	addr := hung(t) + ",127.0.0.1:1"
	_, err := named(ctx, addr)
	if _, ok := errors.AsType[*unreachableError](err); !ok || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
}

// TestGRPCPortAskedForHTTP: it speaks first, and in another way. That is no news to
// who only named it.
func TestGRPCPortAskedForHTTP(t *testing.T) {
	e := startNode(t)
	var said bytes.Buffer
	log.SetOutput(&said)
	defer log.SetOutput(os.Stderr)
	for range 50 {
		if found := knock(t.Context(), e.Addresses.GRPC); len(found) != 1 || found[0] != e.Addresses.GRPC {
			t.Fatalf("found %v", found)
		}
	}
	if found := knock(t.Context(), e.Addresses.HTTP); len(found) != 1 || found[0] != e.Addresses.GRPC {
		t.Errorf("behind the HTTP address: %v", found)
	}
	if said.Len() > 0 {
		t.Errorf("said %s", said.String())
	}
}

// TestAnswersAsJSON: every command that has --output takes it at its word.
func TestAnswersAsJSON(t *testing.T) {
	startNode(t)
	if r := cli(t, "x", "send", "--repo", "acme/api"); r.code != 0 {
		t.Fatalf("send: %+v", r)
	}
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"verify"}, 0, `"groups":[`},
		{[]string{"backup", "saved"}, 0, `"folder":"saved"`},
		{[]string{"restore", "saved", "--data-dir", "restored", "--name", "again"}, 0, `"node":"again"`},
		{[]string{"drain", "test"}, 2, ""}, // the only node
	} {
		r := cli(t, "", append(x.args, "--output", "json")...)
		if r.code != x.code || !strings.Contains(r.out, x.want) || (x.code == 0 && (!strings.HasPrefix(r.out, "{") || strings.Count(r.out, "\n") != 1)) {
			t.Errorf("%v: %+v", x.args, r)
		}
	}
}
