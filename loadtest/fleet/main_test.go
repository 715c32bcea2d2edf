package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is the node, too, and what runs in a network of its own: the fleet
// starts this very program again.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == NodeArgument:
		os.Exit(fakeNode(os.Args[2]))
	case len(os.Args) == 2 && os.Args[1] == "cut-test":
		os.Exit(cutTest())
	}
	goleak.VerifyTestMain(m)
}

// fakeNode listens, writes its endpoints, and says that it is ready, and that it
// holds all there is. Over HTTP it can be asked to end, for its spec, for the
// orders that it was given, and whether it can reach another address.
func fakeNode(arg string) int {
	var spec Spec
	if err := json.Unmarshal([]byte(arg), &spec); err != nil {
		return 1
	}
	if spec.Cluster == "broken" || spec.Cluster == "broken-second" && spec.Name != "node-1" {
		_, _ = os.Stdout.WriteString("the reason why\n")
		return 7
	}
	_ = os.MkdirAll(spec.DataDir, 0o755)
	at := map[string]string{}
	for name, address := range map[string]string{
		"grpc": spec.Addresses.GRPC, "gossip": spec.Addresses.Gossip, "peer": spec.Addresses.Peer,
	} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		at[name] = l.Addr().String()
		go discard(l)
	}
	web, err := net.Listen("tcp", spec.Addresses.HTTP)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	at["http"] = web.Addr().String()
	file, _ := json.Marshal(map[string]any{"pid": os.Getpid(), "addresses": at})
	if os.WriteFile(filepath.Join(spec.DataDir, "endpoints.json"), file, 0o600) != nil {
		return 1
	}
	orders := make(chan string, 16)
	go func() { _ = http.Serve(web, fakePages(&spec, orders)) }() //nolint:gosec // a test
	drain := make(chan os.Signal, 1)
	signal.Notify(drain, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 100)
		for {
			n, err := os.Stdin.Read(b)
			if n > 0 {
				orders <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-drain:
		_ = os.WriteFile(filepath.Join(spec.DataDir, "drained"), nil, 0o600)
	}
	return 0
}

func discard(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
	}
}

func fakePages(spec *Spec, orders chan string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/quit", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("/join", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, spec.Join) })
	mux.HandleFunc("/orders", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, <-orders) })
	mux.HandleFunc("/v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"partitions":[{"id":0,"leader":"x","durable_copies":%d}]}`, spec.Replication)
	})
	mux.HandleFunc("/neighbour", func(w http.ResponseWriter, r *http.Request) {
		out, _ := exec.Command("ip", "neigh", "show", r.URL.Query().Get("of")).CombinedOutput() //nolint:gosec // a test
		_, _ = w.Write(out)
	})
	mux.HandleFunc("/reach", func(w http.ResponseWriter, r *http.Request) {
		dial := (&net.Dialer{}).DialContext
		if spec.Detour != nil {
			dial = spec.Detour.Dial
		}
		within, _ := time.ParseDuration(r.URL.Query().Get("within"))
		if err := echo(r.URL.Query().Get("to"), within, dial); err != nil {
			fmt.Fprint(w, err)
			return
		}
		fmt.Fprint(w, "reached")
	})
	return mux
}

// get asks a fake node something.
func get(address, path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(b)), err
}

// echo has an address say what it is told, within so long.
func echo(address string, within time.Duration, dial func(context.Context, string, string) (net.Conn, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	c, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(within))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}
