package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/waystation/waystation/cluster/identity"
)

// Claim is what a node that starts says of the ports that it holds, before it
// knows who it is: nodes that start beside it take others.
type Claim struct {
	path string
	gone atomic.Bool
}

// Claim writes the addresses, host:port, that this process listens on. The claim
// ends with Close, and with the process.
func (h *Home) Claim(addrs []string) (*Claim, error) {
	b, err := json.Marshal(claimRecord{PID: os.Getpid(), Host: h.host, Addrs: addrs})
	if err != nil {
		return nil, fmt.Errorf("claim ports: %w", err)
	}
	if err := private(h.claims()); err != nil {
		return nil, fmt.Errorf("claim ports: %w", err)
	}
	f, err := os.CreateTemp(h.claims(), claimPrefix+"*.tmp")
	if err != nil {
		return nil, fmt.Errorf("claim ports: %w", err)
	}
	c := &Claim{path: f.Name() + entrySuffix}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), c.path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim ports: %w", err), os.Remove(f.Name()))
	}
	return c, nil
}

// Close takes the claim back. Twice is fine.
func (c *Claim) Close() error {
	if c.gone.Swap(true) {
		return nil
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("take claim back: %w", err)
	}
	return nil
}

// Introduce writes the entry of a node that starts, unless another process runs
// with its identity: a copied data folder, ErrCopied.
func (h *Home) Introduce(ctx context.Context, e Entry) error {
	all, err := h.Entries(ctx, e.Cluster)
	if err != nil {
		return fmt.Errorf("introduce node: %w", err)
	}
	id, err := identity.ParseNodeID(e.NodeID)
	if err != nil {
		return fmt.Errorf("introduce node: %w", err)
	}
	if err := notTwice(all, Self{Node: id, DataDir: e.DataDir}); err != nil {
		return fmt.Errorf("introduce node: %w", err)
	}
	return h.Write(e)
}

const claimPrefix = "ports-"

type claimRecord struct {
	PID   int      `json:"pid"`
	Host  string   `json:"host"`
	Addrs []string `json:"addresses"`
}

func (h *Home) claims() string { return filepath.Join(h.dir, "starting") }

// claimed says whether a process that runs has claimed the address. Claims of
// those that are gone are cleared away.
func (h *Home) claimed(addr string) bool {
	paths, _ := filepath.Glob(filepath.Join(h.claims(), claimPrefix+"*"+entrySuffix)) // the pattern is in order
	found := false
	for _, path := range paths {
		b, err := os.ReadFile(path)
		var r claimRecord
		if err != nil || json.Unmarshal(b, &r) != nil || r.Host != h.host {
			continue
		}
		if !alive(r.PID) {
			_ = os.Remove(path) // the next one finds it again
			continue
		}
		for _, a := range r.Addrs {
			found = found || sameAddr(a, addr)
		}
	}
	return found
}
