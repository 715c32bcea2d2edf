package options

import (
	"fmt"
	"slices"
)

// MaxNodes is how many nodes of its own a run may have.
const MaxNodes = 9

// quorumNodes is the smallest cluster of which a node may be cut off.
const quorumNodes = 3

// validateNodes reports what is wrong with what is asked of the nodes.
func (o *Options) validateNodes() (errs []error) {
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(o.Nodes >= 1 && o.Nodes <= MaxNodes, "--nodes %d: must be 1 to %d", o.Nodes, MaxNodes)
	need(slices.Contains([]int{1, 3, 5}, o.Replication), "--replication %d: must be 1, 3 or 5", o.Replication)
	if o.Targets != "" {
		need(!o.NodesGiven, "--nodes with --target: leave one of them out; nodes are started, targets run already")
		need(len(o.Faults) == 0, "--fault with --target: faults are for the run's own nodes only; use --nodes")
		need(!o.RollingRestart, "--rolling-restart with --target: only the run's own nodes are restarted; use --nodes")
		need(len(o.Grow) == 0, "--grow with --target: only the run's own nodes grow; leave --target out")
	}
	for _, f := range o.Faults {
		need(f.Every <= o.Warmup+o.Duration, "--fault %s:every=%v: would never happen in %v; make --duration longer or every= shorter",
			f.Kind, f.Every, o.Warmup+o.Duration)
	}
	most := max(o.Nodes, slices.Max(append(o.Grow, 0)))
	need(!o.Has(Partition) || most >= quorumNodes || o.Targets != "",
		"--fault partition: with %d nodes there is nothing to cut a node off; use --nodes %d", most, quorumNodes)
	need(!o.Has(Partition) || o.Replication >= quorumNodes,
		"--fault partition with --replication %d: who is cut off takes partitions along; use --replication 3", o.Replication)
	need(slices.Contains([]string{"auto", "namespaces", "proxies"}, o.Between), "--between %q: must be auto, namespaces or proxies", o.Between)
	need(!o.RollingRestart || len(o.Grow) == 0, "--rolling-restart with --grow: choose one of them")
	errs = append(errs, o.validateGrow()...)
	return errs
}

func (o *Options) validateGrow() (errs []error) {
	if len(o.Grow) == 0 {
		return nil
	}
	if len(o.Grow) < 2 {
		errs = append(errs, fmt.Errorf("--grow %d: one number changes nothing; want several, such as 1,3,1", o.Grow[0]))
	}
	for _, n := range o.Grow {
		if n < 1 || n > MaxNodes {
			errs = append(errs, fmt.Errorf("--grow %d: must be 1 to %d nodes", n, MaxNodes))
		}
	}
	if o.Nodes != o.Grow[0] {
		errs = append(errs, fmt.Errorf("--grow begins with %d nodes, --nodes says %d: leave --nodes out", o.Grow[0], o.Nodes))
	}
	return errs
}
