package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// runDrain asks for a drain and follows it until the node holds nothing.
func runDrain(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("drain")
	addrFlag(fs)
	undo := fs.Bool("undo", false, "make the node an ordinary one again")
	wait := fs.Duration("wait", 10*time.Minute, "how long to follow it; 0: not at all")
	n, name, err := lookAt(ctx, s, fs, args, "drain NODE [flags]", "one node, by the name or id that `nodes` shows")
	if err != nil {
		return helped(err)
	}
	defer n.close()
	if _, err := call(ctx, n, n.DrainNode, &waystationv1.DrainNodeRequest{Node: name, Undo: *undo}); err != nil {
		return err
	}
	d := drain{node: n, name: name, out: s.Out, json: *output == "json", wait: *wait}
	if *undo {
		return d.undone()
	}
	return d.follow(ctx)
}

const followEvery = 250 * time.Millisecond

// drain is one that is followed.
type drain struct {
	node *node
	name string // or id
	out  io.Writer
	json bool
	wait time.Duration
	said string
	told bool // what it means for the others
}

// drained is a line of the command's output as JSON.
type drained struct {
	Node       string `json:"node"`
	Leaders    int    `json:"leaders"`
	Holds      int    `json:"holds"`
	Partitions int    `json:"partitions"`
	// Note is what the drain means for the others.
	Note string `json:"note,omitempty"`
	Done bool   `json:"done"`
}

func (d *drain) undone() error {
	if d.json {
		return printJSON(d.out, map[string]any{"node": d.name, "undone": true})
	}
	_, err := fmt.Fprintf(d.out, "%s takes part again: `nodes` shows what moves back to it\n", d.name)
	return err
}

// follow prints what is left of a node whenever that changes, until nothing is.
func (d *drain) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.wait)
	defer cancel()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		answer, err := call(context.WithoutCancel(ctx), d.node, d.node.DescribeCluster, &waystationv1.DescribeClusterRequest{})
		x := nodeOf(answer, d.name)
		switch {
		case err == nil && x == nil:
			return fmt.Errorf("%s is no node of the cluster any more", d.name)
		case err == nil && d.say(answer, x):
			return nil
		case d.wait == 0:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err != nil {
				return err
			}
			return d.unfinished(answer, x)
		}
	}
}

// say prints the news, and says whether the node holds nothing any more. What a
// node that is down would say of itself is not there: the others' word counts.
func (d *drain) say(r *waystationv1.DescribeClusterResponse, x *waystationv1.Node) bool {
	holds := holding(r, x)
	if holds == 0 && !led(r) {
		return false // a partition whose leader nobody has heard of may be held still
	}
	note := ""
	if !d.told {
		d.told = true
		note = meaning(r, x)
	}
	if d.json {
		return d.sayJSON(drained{
			Node: x.GetName(), Leaders: int(x.GetLeaders()), Holds: holds, Partitions: len(r.GetPartitions()), Note: note, Done: holds == 0,
		})
	}
	if note != "" {
		fmt.Fprintln(d.out, note)
	}
	if holds == 0 {
		fmt.Fprintf(d.out, "%s holds no partition any more: stop it and `remove %s`, or `drain %s --undo`\n", x.GetName(), x.GetName(), x.GetName())
		return true
	}
	now := fmt.Sprintf("%s: leads %d, holds %d of %d partitions", x.GetName(), x.GetLeaders(), holds, len(r.GetPartitions()))
	if now != d.said {
		d.said = now
		fmt.Fprintln(d.out, now)
	}
	return false
}

func (d *drain) sayJSON(now drained) bool {
	// What cannot be written shows at the end of the command's output.
	line := now
	line.Note = ""
	if said := fmt.Sprint(line); said != d.said {
		d.said = said
		_ = printJSON(d.out, now)
	}
	return now.Done
}

// unfinished says what is left, and why.
func (d *drain) unfinished(r *waystationv1.DescribeClusterResponse, x *waystationv1.Node) error {
	why := ""
	if moves := movesOf(r); len(moves) > 0 {
		why = " (" + printable(moves[0]) + ")"
	}
	return fmt.Errorf("%s still holds %d of %d partitions after %v%s: it goes on draining; see `nodes`, or `drain %s --undo`",
		x.GetName(), holding(r, x), len(r.GetPartitions()), d.wait, why, x.GetName())
}

func nodeOf(r *waystationv1.DescribeClusterResponse, name string) *waystationv1.Node {
	for _, x := range r.GetNodes() {
		if x.GetName() == name || x.GetId() == name {
			return x
		}
	}
	return nil
}

// holding counts the partitions of which a node has a replica, or is still
// counted on.
func holding(r *waystationv1.DescribeClusterResponse, x *waystationv1.Node) int {
	n := 0
	for _, p := range r.GetPartitions() {
		if slices.Contains(p.GetVoters(), x.GetId()) || slices.Contains(p.GetLearners(), x.GetId()) {
			n++
		}
	}
	return max(n, int(x.GetReplicas()))
}

// led says whether each partition has a leader to say who holds it.
func led(r *waystationv1.DescribeClusterResponse) bool {
	return !slices.ContainsFunc(r.GetPartitions(), func(p *waystationv1.Partition) bool { return p.GetLeader() == "" })
}

// meaning says what a drain leaves, where that is fewer copies than before:
// voters are 1, 3 or 5.
func meaning(r *waystationv1.DescribeClusterResponse, x *waystationv1.Node) string {
	stay, voters := 0, 0
	for _, n := range r.GetNodes() {
		if n.GetState() != "draining" && n.GetId() != x.GetId() {
			stay++
		}
	}
	for _, p := range r.GetPartitions() {
		voters = max(voters, len(p.GetVoters()))
	}
	left := stay - 1 + stay%2
	if left < 1 || left >= voters {
		return ""
	}
	nodes, copies := fmt.Sprintf("%d nodes stay", stay), fmt.Sprintf("%d voters", left)
	if stay == 1 {
		nodes = "1 node stays"
	}
	if left == 1 {
		copies = "1 voter"
	}
	return fmt.Sprintf("%s, and voters are 1, 3 or 5: each partition goes from %d to %s, so that packets are durable on %d of them. "+
		"Another node that joins, or `drain %s --undo`, brings the others back.", nodes, voters, copies, left, x.GetName())
}

func runRemove(ctx context.Context, s Streams, args []string) error {
	fs, output := flags("remove")
	addrFlag(fs)
	n, name, err := lookAt(ctx, s, fs, args, "remove NODE [flags]", "one node, by the name or id that `nodes` shows; `drain` it first if it runs")
	if err != nil {
		return helped(err)
	}
	defer n.close()
	if _, err = call(ctx, n, n.RemoveNode, &waystationv1.RemoveNodeRequest{Node: name}); err != nil {
		return err
	}
	if *output == "json" {
		return printJSON(s.Out, map[string]any{"node": name, "removed": true})
	}
	_, err = fmt.Fprintf(s.Out, "%s is no node of the cluster any more; to join again it needs an empty --data-dir\n", name)
	return err
}
