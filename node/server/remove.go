package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/storage"
)

const (
	// removeWait is how long a removal waits for groups that count on the node, and
	// for meta to hear that they do not, removePoll the time between two looks.
	removeWait = 8 * time.Second
	removePoll = 100 * time.Millisecond
)

// removal takes a node out of the cluster once every group can do without it: from
// then on nobody talks to it any more. Two nodes of three that are removed one right
// after the other could else take meta's majority with them, before it has let go of
// them.
//
// Two are asked, and both must agree, again after each wait: the groups' leaders, who
// know who votes now and who of them is there; and meta, which decides by its records
// in the order of its log, so that two removals at a time cannot both be right.
type removal struct {
	// counted says which group counts on the node now, as its leader says; empty if
	// none.
	counted func(ctx context.Context) string
	// take has meta remove the node. ErrLastCopies says that its records count on it:
	// a group has yet to report.
	take func(ctx context.Context) error
	wait time.Duration
}

func (c *clusterView) removal(n identity.NodeID) *removal {
	return &removal{
		counted: func(ctx context.Context) string {
			limited, cancel := context.WithTimeout(ctx, reportLimit)
			defer cancel()
			return counted(c.node.meta.View(), c.node.member.Reports(limited), n)
		},
		take: func(ctx context.Context) error { return c.node.calls.SetNodeState(ctx, n, meta.NodeRemoved) },
		wait: removeWait,
	}
}

// run blocks until the node is removed, for r.wait at most; then it is refused.
func (r *removal) run(ctx context.Context) error {
	over := time.NewTimer(r.wait)
	defer over.Stop()
	tick := time.NewTicker(removePoll)
	defer tick.Stop()
	for {
		why := r.counted(ctx)
		if why == "" {
			err := r.take(ctx)
			if !errors.Is(err, meta.ErrLastCopies) {
				return err
			}
			why = "has copies without which there is no majority"
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return &actors.Refusal{
				Code: actors.CodeUnavailable, Field: "node", RetryAfter: time.Second,
				Message: why + ": `drain` it first, until it holds none, or bring back those that are down; see `nodes`",
			}
		}
	}
}

// counted says which group would be without a majority if a node were gone; empty
// if none.
func counted(v *meta.View, reports map[identity.NodeID]*peerv1.ReportResponse, gone identity.NodeID) string {
	for g := meta.MetaGroup; g <= meta.PartitionGroup(v.Cluster.Partitions-1); g++ {
		leads := leaderOf(reports, g)
		if leads == nil {
			return groupName(g) + " has no leader"
		}
		all, stay, counts := len(leads.GetVoters()), 0, false
		for _, r := range leads.GetVoters() {
			on, _ := v.NodeOf(g, storage.ReplicaID(r))
			switch n, known := v.Node(on); {
			case on == gone:
				counts = true
			case known && n.State != meta.NodeRemoved && reports[on] != nil:
				stay++
			}
		}
		if counts && stay <= all/2 {
			return fmt.Sprintf("%s counts on it: of %d voters, %d would be left", groupName(g), all, stay)
		}
	}
	return ""
}

// leaderOf is the report of a group's leader, nil while there is none.
func leaderOf(reports map[identity.NodeID]*peerv1.ReportResponse, g storage.GroupID) (leads *peerv1.GroupReport) {
	for _, r := range reports {
		x := groupOfReport(r, g)
		if x != nil && x.GetError() == "" && x.GetLeader() == x.GetReplica() && x.GetReplica() != 0 && (leads == nil || x.GetTerm() > leads.GetTerm()) {
			leads = x
		}
	}
	return leads
}

func groupName(g storage.GroupID) string {
	if g == meta.MetaGroup {
		return "meta"
	}
	return fmt.Sprintf("partition %d", g-1)
}
