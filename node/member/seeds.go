package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/waystation/waystation/cluster/discovery"
	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// keepJoining looks for others wherever they may be, as long as none is there:
// where the flag says, on this machine, and where meta has last seen them.
func (m *Member) keepJoining(seeds []string) {
	m.seeds.Store(&seeds)
	m.gossip.KeepJoiningFrom(func(ctx context.Context) []string {
		out := slices.Clone(*m.seeds.Load())
		if m.cfg.Near != nil {
			out = append(out, m.cfg.Near(ctx)...)
		}
		out = append(out, m.lastSeen()...)
		slices.Sort(out)
		return slices.Compact(out)
	})
}

// lastSeen is where the other members gossiped when they last told meta.
func (m *Member) lastSeen() (out []string) {
	p := m.parts.Load()
	if p == nil {
		return nil
	}
	for _, n := range p.Meta.View().NodesIn(meta.NodeJoining, meta.NodeActive, meta.NodeDraining) {
		if n.ID != m.cfg.Identity.Node && n.Addresses.Gossip != "" {
			out = append(out, n.Addresses.Gossip)
		}
	}
	return out
}

// candidates are the members that may take this node in. Where clusters are seen
// that are not the same, only those that the flag names count.
func (m *Member) candidates(ctx context.Context, seeds []string) (out []gossip.Member) {
	clusters := map[meta.ClusterID]bool{}
	for _, x := range m.gossip.Members() {
		if !x.Self && !x.Cluster.IsZero() && x.Peer != "" {
			out, clusters[x.Cluster] = append(out, x), true
		}
	}
	if len(clusters) < 2 || len(seeds) == 0 {
		return out
	}
	named := lookUp(ctx, seeds)
	return slices.DeleteFunc(out, func(x gossip.Member) bool { return !named[x.Address] })
}

// lookUp resolves addresses; what cannot be resolved now is left out.
func lookUp(ctx context.Context, addresses []string) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
		if err != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			continue
		}
		for _, ip := range ips {
			out[netip.AddrPortFrom(ip.Unmap(), uint16(number))] = true
		}
	}
	return out
}

const (
	// vainAfter is how long refusals of all addresses may last before a new node
	// gives up: keys and names do not mend themselves. vainCall is what one try may
	// take.
	vainAfter = 3 * time.Second
	vainCall  = 3 * time.Second
)

// vain is what a node that nobody takes in has met with.
type vain struct {
	since, tried time.Time
	last         error
}

// inVain says why asking on is of no use: every address that this node was told
// is itself, or refuses to talk with it.
func (m *Member) inVain(ctx context.Context, v *vain, seeds []string) error {
	if len(seeds) == 0 || len(m.gossip.Members()) > 1 {
		v.since, v.last = time.Now(), nil
		return nil
	}
	if time.Since(v.tried) < time.Second {
		return nil
	}
	v.tried = time.Now()
	ctx, cancel := context.WithTimeout(ctx, vainCall)
	defer cancel()
	_, v.last = m.gossip.Join(ctx, seeds)
	if !definite(v.last) {
		v.since = time.Now()
		return nil
	}
	if time.Since(v.since) < vainAfter {
		return nil
	}
	return fmt.Errorf("%w: --join: %w%s", ErrRefused, v.last, remedy(v.last))
}

// insecure says why asking on is of no use: certificates have stood between this
// node and all that may take it in for a while. last is why the last one of them
// did not.
func (m *Member) insecure(ctx context.Context, v *vain, all []gossip.Member, last error) error {
	if len(all) == 0 || last == nil {
		v.since, v.last = time.Now(), nil
		return nil
	}
	if time.Since(v.tried) < time.Second {
		return nil
	}
	v.tried = time.Now()
	var errs []error
	for _, x := range all {
		err := m.pool.Diagnose(ctx, x.Peer)
		if err == nil {
			v.since, v.last = time.Now(), nil
			return nil
		}
		errs = append(errs, err)
	}
	if v.last = errors.Join(errs...); time.Since(v.since) < vainAfter {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrRefused, v.last)
}

// definite says that time will not mend err.
func definite(err error) bool {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		all := list.Unwrap()
		return len(all) > 0 && !slices.ContainsFunc(all, func(err error) bool { return !definite(err) })
	}
	for _, x := range []error{gossip.ErrSelf, gossip.ErrLabel, gossip.ErrKey, gossip.ErrCopied} {
		if errors.Is(err, x) {
			return true
		}
	}
	return false
}

// remedy is the flag to change, where err does not name it.
func remedy(err error) string {
	switch {
	case errors.Is(err, gossip.ErrSelf):
		return ": name another node's gossip address, or found a cluster with --join none"
	case errors.Is(err, gossip.ErrKey):
		return ": give all nodes the same --gossip-key-file"
	}
	return ""
}

// joinLook is how long a node that starts again looks at those that it is to
// join, before it goes on without.
const joinLook = 2 * time.Second

// foreign says that a node which is part of a cluster was told to join another
// one. Who does not answer is looked at again by watchSeeds.
func (m *Member) foreign(ctx context.Context, seeds []string) error {
	if len(seeds) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, joinLook)
	defer cancel()
	if _, err := m.gossip.Join(ctx, seeds); err != nil {
		if errors.Is(err, gossip.ErrCopied) {
			return fmt.Errorf("%w: --join: %w", ErrRefused, err)
		}
		return nil // keepJoining says why, and tries on
	}
	return m.apart(ctx, seeds)
}

// apart compares the clusters of the nodes that this one was told to join.
func (m *Member) apart(ctx context.Context, seeds []string) error {
	b, all := m.Belonging(), m.gossip.Members()
	if b == nil || !slices.ContainsFunc(all, func(x gossip.Member) bool { return !x.Cluster.IsZero() && x.Cluster != b.Cluster }) {
		return nil
	}
	named, s := lookUp(ctx, seeds), m.cfg.Settings
	here := discovery.Party{
		Node: m.cfg.Identity.Node, Life: m.cfg.Identity.Life, Name: s.Name, Cluster: b.Cluster, ClusterName: s.ClusterName,
		Level: featureLevel, DataDir: s.DataDir,
	}
	for _, x := range all {
		if x.Self || x.Cluster.IsZero() || !named[x.Address] {
			continue
		}
		there := discovery.Party{Node: x.Node, Name: x.Name, Cluster: x.Cluster, ClusterName: s.ClusterName, Level: featureLevel, Address: x.Address.String()}
		if err := discovery.CheckJoin(here, there); err != nil {
			return fmt.Errorf("%w: --join: %w", ErrRefused, err)
		}
	}
	return nil
}

// watchSeeds looks at those that this node was told to join and that came later.
func (m *Member) watchSeeds() {
	changes := m.gossip.Subscribe()
	defer changes.Close()
	for {
		if err := m.apart(m.ctx, *m.seeds.Load()); err != nil {
			m.cfg.Fatal(err)
			return
		}
		select {
		case <-changes.C:
		case <-m.ctx.Done():
			return
		}
	}
}

// Alone says that no process runs with this node's identity where its last start
// told meta that it is: otherwise one of the two is a copy.
func (m *Member) Alone(ctx context.Context, v *meta.View) error {
	n, known := v.Node(m.cfg.Identity.Node)
	at := n.Addresses.Gossip
	if !known || at == "" || at == m.cfg.Addresses.Gossip {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, joinLook)
	defer cancel()
	if _, err := m.gossip.Join(ctx, []string{at}); errors.Is(err, gossip.ErrCopied) {
		return m.copied(at, err)
	}
	return nil
}

func (m *Member) copied(at string, err error) error {
	return fmt.Errorf("%w: another process runs on a copy of this data folder (node %s), at %s: remove one of the two; a node that is to be new needs an empty --data-dir: %w",
		ErrRefused, m.cfg.Identity.Node, at, err)
}

// conflict ends a node whose data folder runs a second time. The one that meta
// has recorded stays: should that be the other one, meta's view tells.
func (m *Member) conflict(c gossip.Conflict) {
	m.log.Error("two nodes run on copies of one data folder", "node", c.Node, "one", c.Here.Address, "other", c.There.Address)
	if c.Mine && !m.announced.Load() {
		m.cfg.Fatal(m.copied(c.There.Address.String(), gossip.ErrCopied))
	}
}

// replaced ends a node after whose start another one was recorded.
func (m *Member) replaced(self meta.Node) {
	mine := m.cfg.Identity
	if self.ID == (identity.NodeID{}) || !m.announced.Load() || self.Life == mine.Life || self.Boot < mine.Boot {
		return
	}
	m.cfg.Fatal(m.copied(self.Addresses.Gossip, meta.ErrCopy))
}
