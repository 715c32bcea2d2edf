package gossip

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/waystation/waystation/cluster/identity"
)

// Conflict is one node id in two running processes: a copied data folder.
type Conflict struct {
	Node identity.NodeID
	// Mine says that this node is one of the two.
	Mine bool
	// Here is the one that was known, There the other.
	Here, There Member
}

// judging looks into names at two addresses. Most are nodes that were started
// again under another address while their old life is still held to be alive;
// so both addresses are asked, and only two answers are a conflict.
func (g *Gossip) judging() {
	told := map[[2]netip.AddrPort]time.Time{}
	for {
		select {
		case <-g.ctx.Done():
			return
		case p := <-g.d.conflicts:
			g.judge(p, told)
		}
	}
}

// tellAgain is the time between two reports of the same conflict.
const tellAgain = time.Minute

func (g *Gossip) judge(p pair, told map[[2]netip.AddrPort]time.Time) {
	mine := p.known.Node == g.config.Meta.Node
	if !g.runs(p.other) || !mine && !g.runs(p.known) {
		if mine {
			g.insist()
		}
		return
	}
	where := [2]netip.AddrPort{p.known.Address, p.other.Address}
	if at, ok := told[where]; ok && time.Since(at) < tellAgain {
		return
	}
	if len(told) >= maxLost {
		clear(told)
	}
	told[where] = time.Now()
	g.metrics.conflicts.Inc()
	g.log.Error("two processes run with one node id: a data folder was copied",
		"node", p.known.Node, "here", where[0], "there", where[1])
	if g.config.OnConflict != nil {
		g.config.OnConflict(Conflict{Node: p.known.Node, Mine: mine, Here: p.known, There: p.other})
	}
}

// judgeTimeout bounds the wait for the answer of one address. Taking somebody for
// gone who is slow is no harm: what is a conflict comes again.
const judgeTimeout = 2 * time.Second

// runs says that a process with m's node id, and not this one, answers at m's
// address.
func (g *Gossip) runs(m Member) bool {
	ctx, cancel := context.WithTimeout(g.ctx, judgeTimeout)
	defer cancel()
	n, err := g.nonce()
	if err != nil {
		return false
	}
	h, err := g.t.ask(ctx, m.Address.String(), n)
	return err == nil && h.node == m.Node && h.instance != g.instance
}

// insistTries pushes are more than fit into the time until a node that fell
// silent is held to be dead.
const insistTries = 20

// insist makes the loop tell the others of this life of the node again and again:
// they refuse it as long as they hold the earlier one to be alive, and nothing
// says when that ends.
func (g *Gossip) insist() {
	g.insists.Store(insistTries)
	g.wake()
}

// push exchanges members with those who are there, a few at most.
func (g *Gossip) push() {
	const most = 5
	others := slices.DeleteFunc(slices.Clone(g.Members()), func(m Member) bool { return m.Self })
	if len(others) == 0 {
		return
	}
	from := int(g.random.uint64() % uint64(len(others)))
	for i := range min(most, len(others)) {
		at := others[(from+i)%len(others)].Address
		ctx, cancel := context.WithTimeout(g.ctx, joinTimeout)
		if err := g.joinOne(ctx, at); err != nil {
			g.log.Debug("a member was not told of the new address", "address", at, "error", err)
		}
		cancel()
	}
}
