package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/waystation/waystation/internal/freeport"
)

// NodeArgument is the first argument that makes this program a node; the second
// one is its Spec as JSON.
const NodeArgument = "node-process"

// Spec is what a node process is told.
type Spec struct {
	Name      string    `json:"name"`
	Cluster   string    `json:"cluster"`
	DataDir   string    `json:"data_dir"`
	Addresses Addresses `json:"addresses"`
	// Advertise is the host under which the other nodes reach this one, if not where it listens.
	Advertise string `json:"advertise,omitempty"`
	// Join is what --join says: "none", or gossip addresses.
	Join        string `json:"join"`
	Replication int    `json:"replication"`
	// GossipKeyFile is set for nodes beyond loopback, in a network of their own.
	GossipKeyFile string `json:"gossip_key_file,omitempty"`
	// Detour is set for nodes with proxies between them.
	Detour *Detour `json:"detour,omitempty"`
	// Lossy has the disk lose at a kill what was not synced; Seed says what of it is lost.
	Lossy bool   `json:"lossy,omitempty"`
	Seed  uint64 `json:"seed,omitempty"`
}

// Loopback says whether the node can be reached from this machine only.
func (s *Spec) Loopback() bool { return s.GossipKeyFile == "" }

// Addresses are where a node listens.
type Addresses struct {
	GRPC   string `json:"grpc"`
	HTTP   string `json:"http"`
	Gossip string `json:"gossip"`
	Peer   string `json:"peer"`
}

// AnyPort chooses free ports of loopback, where a node that was killed can come back.
func AnyPort() Addresses {
	return Addresses{GRPC: anyPort(), HTTP: anyPort(), Gossip: anyPort(), Peer: anyPort()}
}

func anyPort() string {
	at, err := freeport.Addr()
	if err != nil {
		return "127.0.0.1:0" // the system may know one
	}
	return at
}

// keep takes over the addresses that are known; a port may be closed.
func (a *Addresses) keep(known Addresses) {
	for _, f := range []struct {
		to   *string
		from string
	}{{&a.GRPC, known.GRPC}, {&a.HTTP, known.HTTP}, {&a.Gossip, known.Gossip}, {&a.Peer, known.Peer}} {
		if f.from != "" {
			*f.to = f.from
		}
	}
}

// process is one incarnation of a node.
type process struct {
	cmd *exec.Cmd
	// stdin stays open as long as this program lives: its end tells the node to
	// stop. A line is an order: see Slow.
	stdin io.WriteCloser
	// done is closed once the process has ended; err says how.
	done chan struct{}
	err  error
}

// spawn starts the process, by means of start, and returns at once.
func spawn(spec Spec, log *os.File, start func(*exec.Cmd) error) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	arg, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	p := &process{cmd: exec.Command(self, NodeArgument, string(arg)), done: make(chan struct{})} //nolint:gosec // itself
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = ownGroup()
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	if err := start(p.cmd); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process without warning and waits for its end.
func (p *process) kill() {
	// It errs only when the process has ended, which is what is wanted.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// errEnded says that a process ended before it was ready.
var errEnded = errors.New("ended before it was ready")

// ready waits until the process serves, and returns where.
func (p *process) ready(ctx context.Context, dataDir string) (Addresses, error) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		if addresses, ok := p.endpoints(dataDir); ok && answers(ctx, addresses.HTTP) {
			return addresses, nil
		}
		select {
		case <-poll.C:
		case <-p.done:
			return Addresses{}, errEnded
		case <-ctx.Done():
			return Addresses{}, fmt.Errorf("wait for readiness: %w", context.Cause(ctx))
		}
	}
}

// endpoints reads what this very process has written about itself.
func (p *process) endpoints(dataDir string) (Addresses, bool) {
	b, err := os.ReadFile(filepath.Join(dataDir, "endpoints.json"))
	if err != nil {
		return Addresses{}, false
	}
	var file struct {
		PID       int       `json:"pid"`
		Addresses Addresses `json:"addresses"`
	}
	if err := json.Unmarshal(b, &file); err != nil || file.PID != p.pid() {
		return Addresses{}, false
	}
	return file.Addresses, true
}

// httpClient leaves no connection behind.
func httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

func answers(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := httpClient().Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
