package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// Choice is what Decide says.
type Choice int

// The choices.
const (
	// Bootstrap: make a cluster, then call Done with its entry.
	Bootstrap Choice = iota + 1
	// Join: there is a cluster; its nodes' addresses are in Nodes.
	Join
	// Resume: this node's data belongs to a cluster already. Nodes has those of
	// its nodes that run on this machine, which may be none.
	Resume
)

// String returns the choice's name.
func (c Choice) String() string {
	switch c {
	case Bootstrap:
		return "bootstrap"
	case Join:
		return "join"
	case Resume:
		return "resume"
	}
	return fmt.Sprintf("choice %d", int(c))
}

// Decision is what a starting node is to do. Done must be called, whatever
// becomes of it.
type Decision struct {
	Choice Choice
	// Nodes are the running nodes of the cluster on this machine.
	Nodes []Entry

	home *Home
	lock *storage.DirLock
	once sync.Once
	err  error
}

// Done gives the right to be first back. After a successful bootstrap it is
// called with the node's entry, whose gossip port answers by then: it is written
// before the next one may go on. After a failure it is called with nil. A second
// call does nothing.
func (d *Decision) Done(e *Entry) error {
	d.once.Do(func() {
		if e != nil {
			d.err = d.announce(*e)
		}
		if d.lock != nil {
			d.err = errors.Join(d.err, d.lock.Close())
		}
	})
	return d.err
}

func (d *Decision) announce(e Entry) error {
	if d.Choice == Bootstrap && e.clusterOf().IsZero() {
		return fmt.Errorf("announce the cluster: the entry has the cluster id %q", e.ClusterID)
	}
	return d.home.Write(e)
}

// Self is the starting node.
type Self struct {
	Node identity.NodeID
	// Cluster is what its data belongs to, or zero.
	Cluster meta.ClusterID
	// DataDir is for the texts of errors.
	DataDir string
}

// lookAgain is the time between two looks while another node is being first.
const lookAgain = 50 * time.Millisecond

// Decide says what a node without --join is to do. While another node is being
// the first of this cluster name it waits, until ctx ends; should that node die
// before there is a cluster, the next one is the first.
func (h *Home) Decide(ctx context.Context, cluster string, self Self) (*Decision, error) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	busy := fmt.Errorf("another node of this machine is making the cluster %q and does not come to an end", cluster)
	why := busy
	for {
		d, err := h.look(ctx, cluster, self)
		switch {
		case d != nil:
			return d, nil
		case err == nil:
			why = busy
		case errors.Is(err, errSilent):
			why = err
		case ctx.Err() == nil:
			return nil, fmt.Errorf("decide how to start: %w", err)
		}
		if h.wait != nil {
			h.wait()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("decide how to start: %w: %w", why, ctx.Err())
		case <-tick.C:
		}
	}
}

// look decides, or returns nil if another node is being first.
func (h *Home) look(ctx context.Context, cluster string, self Self) (*Decision, error) {
	d, err := h.find(ctx, cluster, self)
	if d != nil || err != nil {
		return d, err
	}
	if err := private(h.of(cluster)); err != nil {
		return nil, err
	}
	if h.beforeLock != nil {
		h.beforeLock()
	}
	lock, err := storage.LockDir(nil, h.first(cluster))
	if errors.Is(err, storage.ErrLocked) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Whoever had the lock may have made a cluster since the first look.
	d, err = h.find(ctx, cluster, self)
	if d == nil && err == nil {
		return &Decision{Choice: Bootstrap, home: h, lock: lock}, nil
	}
	return d, errors.Join(err, lock.Close())
}

// find looks for a cluster that runs, or that this node belongs to; nil if there
// is none.
func (h *Home) find(ctx context.Context, cluster string, self Self) (*Decision, error) {
	all, silent, err := h.scan(ctx, cluster)
	if err != nil {
		return nil, err
	}
	if err := notTwice(all, self); err != nil {
		return nil, err
	}
	made := slices.DeleteFunc(all, func(e Entry) bool { return e.clusterOf().IsZero() || e.NodeID == self.Node.String() })
	if !self.Cluster.IsZero() {
		return h.resume(made, cluster, self)
	}
	if len(made) == 0 {
		return nil, nobody(silent, self)
	}
	for _, e := range made[1:] {
		if e.ClusterID != made[0].ClusterID {
			return nil, fmt.Errorf("%w: %q is %s in %s and %s in %s; name the one to join with --join %s, or choose a --cluster-name",
				ErrSeveral, cluster, made[0].ClusterID, made[0].DataDir, e.ClusterID, e.DataDir, e.Gossip)
		}
	}
	return &Decision{Choice: Join, Nodes: made, home: h}, nil
}

// errSilent says that a node of a cluster is there and does not answer: neither
// can it be joined, nor may there be another cluster beside it.
var errSilent = errors.New("a node of this cluster name does not answer")

func nobody(silent []Entry, self Self) error {
	for _, e := range silent {
		if e.NodeID != self.Node.String() && !e.clusterOf().IsZero() {
			return fmt.Errorf("%w: process %d in %s, gossip at %s; end it, or choose a --cluster-name", errSilent, e.PID, e.DataDir, e.Gossip)
		}
	}
	return nil
}

func (h *Home) resume(made []Entry, cluster string, self Self) (*Decision, error) {
	mine := slices.DeleteFunc(slices.Clone(made), func(e Entry) bool { return e.clusterOf() != self.Cluster })
	if len(mine) == 0 && len(made) > 0 {
		e := made[0]
		return nil, fmt.Errorf("%w: %s belongs to cluster %s, but a node of cluster %s runs under the name %q on this machine (%s, process %d); "+
			"start this one with another --data-dir to join that cluster, or with --cluster-name or --join none to run beside it",
			ErrOtherCluster, self.DataDir, self.Cluster, e.ClusterID, cluster, e.DataDir, e.PID)
	}
	return &Decision{Choice: Resume, Nodes: mine, home: h}, nil
}

// notTwice finds a running process with this node's id: a copied data folder, as
// the folder itself is locked by who uses it.
func notTwice(all []Entry, self Self) error {
	for _, e := range all {
		if e.NodeID == self.Node.String() && e.DataDir != self.DataDir {
			return fmt.Errorf("%w: %s and %s (process %d) both hold node %s; start this one with an empty --data-dir",
				ErrCopied, self.DataDir, e.DataDir, e.PID, e.NodeID)
		}
	}
	return nil
}

// Gossip returns the nodes' gossip addresses.
func (d *Decision) Gossip() []string {
	out := make([]string, len(d.Nodes))
	for i, e := range d.Nodes {
		out[i] = e.Gossip
	}
	return out
}
