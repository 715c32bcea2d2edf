package discovery

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// Party is one side of a join: this node, or the node at the address that it was
// told to join, by what that answered.
type Party struct {
	Node identity.NodeID
	// Life tells two processes with one node id apart.
	Life uint64
	// Name is the node's label.
	Name string
	// Cluster is zero for a node that belongs to none.
	Cluster     meta.ClusterID
	ClusterName string
	// Version is for texts. Level is the feature level that the program supports;
	// of the other side, the one that the cluster runs at.
	Version string
	Level   uint32
	// Format is the storage format's version.
	Format uint32
	// Partitions is the cluster's number; of this node, what was set by flag, or 0.
	Partitions uint32
	// Address is where the other side answered; DataDir is this side's.
	Address, DataDir string
	// Names are the labels of the other side's nodes, by node.
	Names map[identity.NodeID]string
}

// CheckJoin says why here cannot join the cluster of there, naming the flag to
// change; nil if it can. ErrNoCluster is the only answer that time may change.
func CheckJoin(here, there Party) error {
	if err := checkNode(here, there); err != nil {
		return fmt.Errorf("join %s: %w", there.Address, err)
	}
	var errs []error
	fail := func(sentinel error, format string, args ...any) {
		errs = append(errs, fmt.Errorf("join %s: %w: %s", there.Address, sentinel, fmt.Sprintf(format, args...)))
	}
	if there.Level > here.Level {
		fail(ErrVersion, "the cluster runs at feature level %d (%s) and this program (%s) knows up to %d; update it",
			there.Level, there.Version, here.Version, here.Level)
	}
	if there.Format != here.Format {
		fail(ErrFormat, "storage format %d there and %d here (%s, %s); update the older program", there.Format, here.Format, there.Version, here.Version)
	}
	if here.Partitions != 0 && here.Partitions != there.Partitions {
		fail(ErrFormat, "the cluster has %d partitions; drop --partitions %d, it is chosen when a cluster is made", there.Partitions, here.Partitions)
	}
	for node, name := range there.Names {
		if name == here.Name && node != here.Node {
			fail(ErrTakenName, "node %s is called %q already; choose another --name", node, name)
		}
	}
	return errors.Join(errs...)
}

// checkNode looks at who the other side is.
func checkNode(here, there Party) error {
	switch {
	case there.Node == here.Node && there.Life == here.Life:
		return fmt.Errorf("%w; name another node, or --join none", ErrSelf)
	case there.Node == here.Node:
		return fmt.Errorf("%w: both have the node id %s; start this one with an empty --data-dir instead of %s", ErrCopied, here.Node, here.DataDir)
	case there.ClusterName != here.ClusterName:
		return fmt.Errorf("%w: it is called %q there and %q here (--cluster-name)", ErrOtherName, there.ClusterName, here.ClusterName)
	case there.Cluster.IsZero():
		return fmt.Errorf("%w: node %s waits itself to join one, or for --bootstrap-expect", ErrNoCluster, there.Node)
	case !here.Cluster.IsZero() && here.Cluster != there.Cluster:
		return fmt.Errorf("%w: %s belongs to cluster %s and that node to %s; two clusters are never merged: "+
			"start with an empty --data-dir to join that one, or without --join to go on with this one",
			ErrOtherCluster, here.DataDir, here.Cluster, there.Cluster)
	}
	return nil
}
