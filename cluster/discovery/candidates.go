package discovery

import (
	"slices"

	"github.com/waystation/waystation/cluster/discovery/expect"
	"github.com/waystation/waystation/cluster/gossip"
)

// ViewOf is what gossip's members are to a node that expects n.
func ViewOf(members []gossip.Member, n int) expect.View {
	var v expect.View
	for _, m := range members {
		switch {
		case m.Cluster.IsZero() && int(m.Expect) == n && m.State != gossip.Leaving:
			v.Candidates = append(v.Candidates, m.Node)
		case !m.Cluster.IsZero() && !slices.Contains(v.Made, m.Cluster):
			v.Made = append(v.Made, m.Cluster)
		}
	}
	return v
}
