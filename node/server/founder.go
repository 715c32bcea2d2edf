package server

import (
	"context"
	"errors"
	"net"

	"github.com/waystation/waystation/cluster/discovery"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/member"
	"github.com/waystation/waystation/storage"
)

// founder knows how a node comes to its cluster: by --join, or by what it finds
// on this machine.
type founder struct {
	cfg      *config.Config
	home     *discovery.Home // nil unless --join is auto
	decision *discovery.Decision
	claim    *discovery.Claim // nil before the ports are taken
}

// openFounder looks for the meeting place of this machine's nodes, if the node is
// to look for others by itself: it does on loopback only.
func openFounder(cfg *config.Config) (*founder, error) {
	f := &founder{cfg: cfg}
	if cfg.Join != "auto" || !loopback(cfg.Gossip) || !loopback(cfg.Peer) {
		return f, nil
	}
	home, err := discovery.OpenHome("")
	if err != nil {
		return nil, err
	}
	f.home = home
	return f, nil
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && config.LoopbackHost(host)
}

// lock takes the data folder. A second node of this machine whose flags name none
// takes the next free one.
func (f *founder) lock(fs storage.FS, dir string) (string, *storage.DirLock, error) {
	take := func(dir string) (*storage.DirLock, error) { return storage.LockDir(fs, dir) }
	if f.home == nil {
		lock, err := take(dir)
		return dir, lock, err
	}
	return discovery.PickDataDir(dir, f.cfg.Given("data-dir"), discovery.Exists, take)
}

// listen takes a port, or a free one where another node of this machine has it and
// no flag asks for it.
func (f *founder) listen(ctx context.Context, addr string, given bool) (net.Listener, error) {
	on := func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	if f.home == nil {
		return on(addr)
	}
	return discovery.PickPort(ctx, addr, given, f.home.Serves, on)
}

// claimPorts tells nodes that start beside this one what it holds.
func (f *founder) claimPorts(addrs ...net.Addr) (err error) {
	if f.home == nil {
		return nil
	}
	list := []string{f.cfg.Gossip}
	for _, a := range addrs {
		list = append(list, a.String())
	}
	f.claim, err = f.home.Claim(list)
	return err
}

// near returns where the nodes of this cluster that run on this machine gossip.
// It is asked whenever this node is alone, so that nodes that all start again at
// other ports find each other.
func (f *founder) near(self identity.NodeID) func(context.Context) []string {
	if f.home == nil {
		return nil
	}
	return func(ctx context.Context) (out []string) {
		list, err := f.home.Entries(ctx, f.cfg.ClusterName)
		if err != nil {
			return nil
		}
		for _, e := range list {
			if e.NodeID != self.String() {
				out = append(out, e.Gossip)
			}
		}
		return out
	}
}

// belong returns the cluster of this node. It blocks until there is one.
func (f *founder) belong(ctx context.Context, m *member.Member) (member.Belonging, error) {
	if f.home == nil {
		seeds := f.cfg.JoinAddresses()
		return m.Belong(ctx, seeds, len(seeds) == 0)
	}
	// Before there is anything to join: who is started beside this node must find
	// it, and not make a cluster of its own.
	if err := f.home.Introduce(ctx, f.entry(m)); err != nil {
		return member.Belonging{}, err
	}
	self := discovery.Self{Node: m.Self().ID, DataDir: f.cfg.DataDir}
	if b := m.Belonging(); b != nil {
		self.Cluster = b.Cluster
	}
	d, err := f.home.Decide(ctx, f.cfg.ClusterName, self)
	if err != nil {
		return member.Belonging{}, err
	}
	f.decision = d
	return m.Belong(ctx, d.Gossip(), d.Choice == discovery.Bootstrap)
}

// announce lets other nodes of this machine find this one, and gives back the
// right to be the first.
func (f *founder) announce(m *member.Member) error {
	if f.home == nil {
		return nil
	}
	e := f.entry(m)
	return errors.Join(f.home.Write(e), f.decision.Done(&e))
}

// entry is this node as the others of this machine find it.
func (f *founder) entry(m *member.Member) discovery.Entry {
	at := m.Addresses()
	e := discovery.Entry{
		Cluster: f.cfg.ClusterName, NodeID: m.Self().ID.String(), Name: m.Self().Name,
		DataDir: f.cfg.DataDir, GRPC: at.GRPC, HTTP: at.HTTP, Gossip: at.Gossip, Peer: at.Peer,
	}
	if b := m.Belonging(); b != nil {
		e.ClusterID = b.Cluster.String()
	}
	return e
}

// close ends what a start that failed, or a node that stops, has left.
func (f *founder) close(m *member.Member) error {
	if f.home == nil {
		return nil
	}
	var errs []error
	if f.claim != nil {
		errs = append(errs, f.claim.Close())
	}
	if f.decision != nil {
		errs = append(errs, f.decision.Done(nil))
	}
	if m != nil {
		errs = append(errs, f.home.Remove(f.cfg.ClusterName, m.Self().ID))
	}
	return errors.Join(errs...)
}
