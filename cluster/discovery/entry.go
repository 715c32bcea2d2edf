package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// Entry is what a running node tells the others of its machine.
type Entry struct {
	PID  int    `json:"pid"`
	Host string `json:"host"`
	// Cluster is the configured name; ClusterID is empty until there is a cluster.
	Cluster   string `json:"cluster"`
	ClusterID string `json:"cluster_id"`
	NodeID    string `json:"node_id"`
	Name      string `json:"name"`
	DataDir   string `json:"data_dir"` // absolute
	// The addresses are host:port.
	GRPC   string `json:"grpc"`
	HTTP   string `json:"http"`
	Gossip string `json:"gossip"`
	Peer   string `json:"peer"`
}

const (
	entrySuffix = ".json"
	entryBytes  = 64 << 10
	dialTimeout = 2 * time.Second
)

// Write puts a node's entry into the folder, in place of its earlier one. PID
// and Host are filled in. It is removed by Remove, or taken for stale.
func (h *Home) Write(e Entry) error {
	if _, err := identity.ParseNodeID(e.NodeID); err != nil {
		return fmt.Errorf("write node entry: %w", err)
	}
	e.PID, e.Host = os.Getpid(), h.host
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("write node entry: %w", err)
	}
	dir := h.nodes(e.Cluster)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write node entry: %w", err)
	}
	path := filepath.Join(dir, e.NodeID+entrySuffix)
	temp := fmt.Sprintf("%s.%d.tmp", path, e.PID)
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write node entry: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("write node entry: %w", err), os.Remove(temp))
	}
	return nil
}

// Remove takes the node's entry away, if this process wrote it. Twice is fine.
func (h *Home) Remove(cluster string, node identity.NodeID) error {
	path := filepath.Join(h.nodes(cluster), node.String()+entrySuffix)
	e, err := readEntry(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && (e.PID != os.Getpid() || e.Host != h.host) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove node entry: %w", err)
	}
	return nil
}

func readEntry(path string) (Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, entryBytes))
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := json.Unmarshal(b, &e); err != nil {
		return Entry{}, fmt.Errorf("read %s: %w", path, err)
	}
	return e, nil
}

// Entries returns the nodes of a cluster name that run, by node id. Entries of
// nodes that are gone are cleared away; what cannot be read, or does not answer
// on its gossip port, is passed over.
func (h *Home) Entries(ctx context.Context, cluster string) ([]Entry, error) {
	all, _, err := h.scan(ctx, cluster)
	return all, err
}

// scan returns the nodes that answer, and those that don't though they hold their
// data folder: they may be starting, ending, or stuck.
func (h *Home) scan(ctx context.Context, cluster string) (answering, silent []Entry, err error) {
	paths, err := filepath.Glob(filepath.Join(h.nodes(cluster), "*"+entrySuffix))
	if err != nil {
		return nil, nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, path := range paths {
		e, err := readEntry(path)
		if err != nil || e.Host != h.host || e.Cluster != cluster {
			continue
		}
		switch {
		case alive(e.PID) && answers(ctx, e.Gossip):
			answering = append(answering, e)
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case alive(e.PID) && held(e.DataDir):
			silent = append(silent, e)
		default:
			// Between the look and here, a new life may have written the file anew.
			if again, err := readEntry(path); err == nil && again == e {
				_ = os.Remove(path)
			}
		}
	}
	slices.SortFunc(answering, func(a, b Entry) int { return strings.Compare(a.NodeID, b.NodeID) })
	return answering, silent, ctx.Err()
}

// held says whether some process has a data folder. A process id may have passed
// to another program; the folder's lock cannot.
func held(dir string) bool {
	if !Exists(filepath.Join(dir, "LOCK")) {
		return false
	}
	l, err := storage.LockDir(nil, dir)
	if err != nil {
		return true
	}
	_ = l.Close()
	return false
}

// Serves says whether a running node of any cluster on this machine has the
// address, or has claimed it. Two spellings of one loopback address are the same.
func (h *Home) Serves(addr string) bool {
	if h.claimed(addr) {
		return true
	}
	paths, _ := filepath.Glob(filepath.Join(h.dir, "cluster-*", "nodes", "*"+entrySuffix))
	for _, path := range paths {
		e, err := readEntry(path)
		if err != nil || e.Host != h.host || !alive(e.PID) {
			continue
		}
		for _, a := range []string{e.GRPC, e.HTTP, e.Gossip, e.Peer} {
			if sameAddr(a, addr) {
				return true
			}
		}
	}
	return false
}

func sameAddr(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && plainHost(hostA) == plainHost(hostB)
}

func plainHost(host string) string {
	ip := net.ParseIP(host)
	if host == "localhost" || host == "" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		return "loopback"
	}
	return host
}

// alive says whether a process runs. One that may not be asked does.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }()
	if runtime.GOOS == "windows" {
		return true // FindProcess has opened it
	}
	err = p.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}

func answers(ctx context.Context, addr string) bool {
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// clusterOf reads the entry's cluster id; zero if it has none.
func (e Entry) clusterOf() meta.ClusterID {
	id, err := ParseClusterID(e.ClusterID)
	if err != nil {
		return meta.ClusterID{}
	}
	return id
}
