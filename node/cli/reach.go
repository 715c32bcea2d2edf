package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
)

const (
	// knock is how long a port of this machine, or of another, may take to open.
	knockLocal  = 300 * time.Millisecond
	knockRemote = 5 * time.Second
	// callLimit is how long one answer may take.
	callLimit = 15 * time.Second
)

func addrFlag(fs *pflag.FlagSet) *string {
	return fs.String("addr", "", "gRPC `address` of a node, or several with commas; an HTTP address does too (default: WAYSTATION_ADDR, else the nodes of this machine)")
}

// targets finds the nodes that answer: those that addr or WAYSTATION_ADDR names,
// else every local one that an endpoints file or the default port shows.
func targets(ctx context.Context, s Streams, addr string) ([]string, error) {
	if addr == "" {
		addr, _ = s.Getenv("WAYSTATION_ADDR")
	}
	if addr != "" {
		return named(ctx, addr)
	}
	var found []string
	for _, e := range config.FindEndpoints(".") {
		found = append(found, e.Addresses.GRPC)
	}
	found = append(found, config.Default().Listen)
	slices.Sort(found)
	found = open(ctx, slices.Compact(found), knockLocal)
	if len(found) == 0 {
		return nil, &unreachableError{"no node found on this machine: start one with `go run ./node`, or name one with --addr HOST:PORT"}
	}
	return found, nil
}

func named(ctx context.Context, addr string) ([]string, error) {
	var all []string
	for part := range strings.SplitSeq(addr, ",") {
		part = strings.TrimSpace(part)
		part = strings.TrimSuffix(strings.TrimPrefix(part, "http://"), "/")
		if _, _, err := net.SplitHostPort(part); err != nil {
			return nil, usagef("--addr %q: want HOST:PORT, such as 127.0.0.1:7400", part)
		}
		// Which of a node's two ports it is, the node says: only the HTTP one answers.
		if behind := clusterTargets(ctx, part); len(behind) > 0 {
			all = append(all, behind...)
		} else {
			all = append(all, part)
		}
	}
	found := open(ctx, all, knockRemote)
	if len(found) == 0 {
		return nil, &unreachableError{fmt.Sprintf("could not reach %s: is a node running there?", addr)}
	}
	return found, nil
}

// clusterTargets asks an HTTP address for the gRPC addresses of its cluster. It
// returns none when HTTP is not what is spoken there.
func clusterTargets(ctx context.Context, addr string) []string {
	ctx, cancel := context.WithTimeout(ctx, knockRemote)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/cluster", http.NoBody)
	if err != nil {
		return nil
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var cluster struct {
		Nodes []struct {
			Addresses config.Addresses `json:"addresses"`
		} `json:"nodes"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&cluster); err != nil {
		return nil
	}
	var found []string
	for _, n := range cluster.Nodes {
		found = append(found, n.Addresses.GRPC)
	}
	return found
}

// open returns the addresses whose port opens.
func open(ctx context.Context, addrs []string, limit time.Duration) []string {
	dialer := net.Dialer{Timeout: limit}
	var found []string
	for _, a := range addrs {
		conn, err := dialer.DialContext(ctx, "tcp", a)
		if err != nil {
			continue
		}
		_ = conn.Close() // it was only knocked at
		found = append(found, a)
	}
	return found
}

// dial makes a client of the nodes that answer.
func dial(ctx context.Context, s Streams, addr string, opts ...client.Option) (*client.Client, error) {
	found, err := targets(ctx, s, addr)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, strings.Join(found, ","), opts...)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := c.WaitReady(wait); err != nil {
		_ = c.Close() // nothing was sent yet
		return nil, &unreachableError{fmt.Sprintf("could not reach %s: %v", strings.Join(found, ","), err)}
	}
	return c, nil
}

// node is a connection for calls that only look.
type node struct {
	waystationv1.WaystationClient
	conn *grpc.ClientConn
	addr string
}

// look connects to the first node that answers. The caller closes it.
func look(ctx context.Context, s Streams, addr string) (*node, error) {
	found, err := targets(ctx, s, addr)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(found[0], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, usagef("--addr %q: %v", found[0], err)
	}
	return &node{WaystationClient: waystationv1.NewWaystationClient(conn), conn: conn, addr: found[0]}, nil
}

func (n *node) close() { _ = n.conn.Close() } // nothing is left to be sent

// call makes one call within its limit, and its failure fit to be read.
func call[Q, A any](ctx context.Context, n *node, do func(context.Context, Q, ...grpc.CallOption) (A, error), req Q) (A, error) {
	limited, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := do(limited, req)
	return answer, explain(err, n.addr)
}

// explain makes a call's failure fit to be read.
func explain(err error, addr string) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded:
		if len(st.Details()) == 0 { // not the node's own answer
			return &unreachableError{fmt.Sprintf("could not reach %s: %s", addr, st.Message())}
		}
	case codes.InvalidArgument:
		return usagef("%s", st.Message())
	}
	return errors.New(st.Message())
}
