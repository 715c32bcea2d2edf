package cli

import (
	"bufio"
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
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/client"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/node/config"
)

const (
	// knockRemote is how long a node may take to answer, and a port to open, knockLate
	// how long after another one has.
	knockRemote = 5 * time.Second
	knockLate   = time.Second
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
	found = open(ctx, slices.Compact(found), (&net.Dialer{}).DialContext)
	if len(found) == 0 {
		return nil, &unreachableError{"no node found on this machine: start one with `go run ./node`, or name one with --addr HOST:PORT"}
	}
	return found, nil
}

// named finds which of the named nodes answer, and asks them all at once: one that is
// gone, or that hangs, holds nobody up for long once another has answered.
func named(ctx context.Context, addr string) ([]string, error) {
	var parts []string
	for part := range strings.SplitSeq(addr, ",") {
		part = strings.TrimSpace(part)
		part = strings.TrimSuffix(strings.TrimPrefix(part, "http://"), "/")
		if _, _, err := net.SplitHostPort(part); err != nil {
			return nil, usagef("--addr %q: want HOST:PORT, such as 127.0.0.1:7400", part)
		}
		parts = append(parts, part)
	}
	found := askAll(ctx, len(parts), func(ctx context.Context, i int) []string { return knock(ctx, parts[i]) })
	if len(found) == 0 {
		return nil, &unreachableError{fmt.Sprintf("could not reach %s: is a node running there?", addr)}
	}
	return found, nil
}

// askAll asks n at the same time, knockRemote long, or knockLate from the first that
// answers on, and returns their answers in order.
func askAll(ctx context.Context, n int, ask func(ctx context.Context, i int) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, knockRemote)
	defer cancel()
	var late *time.Timer
	answers := make([][]string, n)
	forEach(ctx, n, func(ctx context.Context, i int) {
		answers[i] = ask(ctx, i)
	}, func(i int) {
		if len(answers[i]) > 0 && late == nil {
			late = time.AfterFunc(knockLate, cancel)
		}
	})
	if late != nil {
		late.Stop()
	}
	return slices.Concat(answers...)
}

// forEach calls do for 0 to n-1 at the same time, and done, one call after the other,
// as each ends. It returns once all have.
func forEach(ctx context.Context, n int, do func(ctx context.Context, i int), done func(i int)) {
	ended := make(chan int)
	for i := range n {
		go func() {
			do(ctx, i)
			ended <- i
		}()
	}
	for range n {
		done(<-ended)
	}
}

// knock returns the gRPC addresses behind addr: those of the cluster, if it is a
// node's HTTP address and not its gRPC one, and none if nobody answers.
func knock(ctx context.Context, addr string) []string {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	defer conn.Close()
	behind, spoken := clusterTargets(ctx, conn, addr)
	if !spoken {
		return nil
	}
	if len(behind) > 0 {
		return open(ctx, behind, (&net.Dialer{}).DialContext)
	}
	return []string{addr}
}

// clusterTargets asks over a new connection for the gRPC addresses of a cluster, as
// HTTP is asked. It returns none when HTTP is not what is spoken there: a gRPC port
// begins by itself, and in another way. spoken says whether anybody said anything.
func clusterTargets(ctx context.Context, conn net.Conn, addr string) (found []string, spoken bool) {
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until) // shows in what follows
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/cluster", http.NoBody)
	if err != nil {
		return nil, false
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return nil, false
	}
	in := bufio.NewReader(conn)
	if _, err := in.Peek(1); err != nil {
		return nil, false
	}
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, true
	}
	defer resp.Body.Close()
	var cluster struct {
		Nodes []struct {
			Addresses config.Addresses `json:"addresses"`
		} `json:"nodes"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&cluster); err != nil {
		return nil, true
	}
	for _, n := range cluster.Nodes {
		found = append(found, n.Addresses.GRPC)
	}
	return found, true
}

// open returns the addresses whose port opens, in their order, and asks them all at
// once: most of them are near. On a busy machine even a near one takes its time, so
// the short limit of the others begins when the first has opened.
func open(ctx context.Context, addrs []string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) []string {
	return askAll(ctx, len(addrs), func(ctx context.Context, i int) []string {
		conn, err := dial(ctx, "tcp", addrs[i])
		if err != nil {
			return nil
		}
		_ = conn.Close() // it was only knocked at
		return addrs[i : i+1]
	})
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

// look connects to the node that answers first: one that hangs takes connections
// too, and says nothing on them. The caller closes it.
func look(ctx context.Context, s Streams, addr string) (*node, error) {
	found, err := targets(ctx, s, addr)
	if err != nil {
		return nil, err
	}
	return lookAmong(ctx, found)
}

func lookAmong(ctx context.Context, found []string) (*node, error) {
	conns := make([]*grpc.ClientConn, 0, len(found))
	for _, a := range found {
		conn, err := grpc.NewClient(a, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			closeBut(conns, -1)
			return nil, usagef("--addr %q: %v", a, err)
		}
		conns = append(conns, conn)
	}
	at := fastest(ctx, conns)
	closeBut(conns, at)
	return &node{WaystationClient: waystationv1.NewWaystationClient(conns[at]), conn: conns[at], addr: found[at]}, nil
}

// fastest returns the connection that is ready first, or the first one if none is
// within a while: a call over it says why not.
func fastest(ctx context.Context, conns []*grpc.ClientConn) int {
	ctx, cancel := context.WithTimeout(ctx, knockRemote)
	defer cancel()
	at := -1
	forEach(ctx, len(conns), func(ctx context.Context, i int) {
		conns[i].Connect()
		for state := conns[i].GetState(); state != connectivity.Ready && conns[i].WaitForStateChange(ctx, state); {
			state = conns[i].GetState()
		}
	}, func(i int) {
		if at < 0 && conns[i].GetState() == connectivity.Ready {
			at = i
			cancel()
		}
	})
	return max(at, 0)
}

func closeBut(conns []*grpc.ClientConn, at int) {
	for i, c := range conns {
		if i != at {
			_ = c.Close() // nothing was sent on it
		}
	}
}

// lookAt is look for a command about one thing, which its only argument names. It
// parses args into fs, which has --addr; want says what the argument has to be.
func lookAt(ctx context.Context, s Streams, fs *pflag.FlagSet, args []string, usageLine, want string) (n *node, arg string, err error) {
	if err := parse(s, fs, args, usageLine); err != nil {
		return nil, "", err
	}
	if fs.NArg() != 1 {
		return nil, "", usagef("%s: want %s", fs.Name(), want)
	}
	addr, err := fs.GetString("addr")
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", fs.Name(), err)
	}
	n, err = look(ctx, s, addr)
	return n, fs.Arg(0), err
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
