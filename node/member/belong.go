package member

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/storage"
)

// ErrRefused says that the cluster will not have this node as it is: trying
// again would not help.
var ErrRefused = errors.New("the cluster refuses this node")

const (
	// joinPause is the time between two rounds of asking, joinCall what one answer
	// may take.
	joinPause = 250 * time.Millisecond
	joinCall  = 10 * time.Second
	// joinNews is how often a node that waits says so.
	joinNews = 10 * time.Second
)

// Belong returns the cluster that this node is part of. For a new data folder it
// founds one, or asks to be taken in until that is done or ctx ends; found says
// how others are found. ErrRefused says that trying on is of no use.
func (m *Member) Belong(ctx context.Context, seeds []string, found bool) (Belonging, error) {
	if b := m.belonging.Load(); b != nil {
		if err := m.foreign(ctx, seeds); err != nil {
			return *b, err
		}
		m.keepJoining(seeds)
		return *b, nil
	}
	b := Belonging{}
	var err error
	m.keepJoining(seeds)
	if m.cfg.Settings.BootstrapExpect > 1 {
		m.serveEarly()
		if b, found, err = m.agree(ctx); err != nil {
			return b, err
		}
	} else if found {
		b = m.founding()
	}
	if !found {
		if b, err = m.ask(ctx, seeds); err != nil {
			return b, err
		}
	}
	b.Node = m.cfg.Settings.Name
	if err := save(m.cfg.Log, b); err != nil {
		return b, err
	}
	m.belonging.Store(&b)
	if err := m.transport.SetCluster(b.Cluster); err != nil {
		return b, err
	}
	return b, m.gossip.UpdateMeta(m.gossipMeta())
}

// founding draws a new cluster.
func (m *Member) founding() Belonging {
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails, says its documentation
	b := Belonging{
		Name: m.cfg.Settings.ClusterName, Partitions: uint16(m.cfg.Settings.Partitions),
		HashSeed: binary.BigEndian.Uint64(random[16:]), Replica: meta.FirstReplica, Founder: true,
	}
	copy(b.Cluster[:], random[:16])
	return b
}

// ask asks the members that gossip shows, one after the other, to be taken in.
func (m *Member) ask(ctx context.Context, seeds []string) (Belonging, error) {
	tick := time.NewTicker(joinPause)
	defer tick.Stop()
	said, last := time.Time{}, error(nil)
	vain := vain{since: time.Now()}
	unsafe := vain
	for {
		if err := m.inVain(ctx, &vain, seeds); err != nil {
			return Belonging{}, err
		}
		all := m.candidates(ctx, seeds)
		for _, member := range all {
			b, err := m.askOne(ctx, member)
			if errors.Is(err, errNameTaken) && m.rename() {
				b, err = m.askOne(ctx, member)
			}
			if err == nil || errors.Is(err, ErrRefused) && !errors.Is(err, errNameTaken) {
				return b, err
			}
			if errors.Is(err, errNameTaken) && m.cfg.Settings.Given("name") {
				return b, err
			}
			last = fmt.Errorf("%s at %s: %w", member.Name, member.Peer, err)
		}
		if err := m.insecure(ctx, &unsafe, all, last); err != nil {
			return Belonging{}, err
		}
		if time.Since(said) > joinNews {
			said = time.Now()
			m.log.Info("waiting to be taken into a cluster", "join", seeds, "last", errors.Join(last, vain.last, unsafe.last))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if last == nil {
				last = errors.Join(errors.New("no node that is part of a cluster was seen"), vain.last)
			}
			return Belonging{}, fmt.Errorf("join %v: %w (%w)", seeds, ctx.Err(), errors.Join(last, unsafe.last))
		}
	}
}

func (m *Member) askOne(ctx context.Context, member gossip.Member) (Belonging, error) {
	peer, err := m.pool.Peer(member.Peer)
	if err != nil {
		return Belonging{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinCall)
	defer cancel()
	answer, err := peer.Join(ctx, &peerv1.JoinRequest{Node: m.nodeProto(), ClusterName: m.cfg.Settings.ClusterName})
	if err != nil {
		switch status.Code(err) {
		case codes.AlreadyExists:
			return Belonging{}, fmt.Errorf("%w: %w: %s", ErrRefused, errNameTaken, status.Convert(err).Message())
		case codes.FailedPrecondition, codes.PermissionDenied, codes.InvalidArgument, codes.ResourceExhausted:
			return Belonging{}, fmt.Errorf("%w: %s", ErrRefused, status.Convert(err).Message())
		}
		return Belonging{}, err
	}
	b := Belonging{
		Name: answer.GetClusterName(), Partitions: uint16(answer.GetPartitions()), HashSeed: answer.GetHashSeed(),
		Replica: storage.ReplicaID(answer.GetMetaReplica()),
	}
	if copy(b.Cluster[:], answer.GetClusterId()) != len(b.Cluster) || b.Cluster.IsZero() || b.Replica == 0 || b.Partitions == 0 {
		return Belonging{}, fmt.Errorf("%s answered without a cluster", member.Name)
	}
	m.log.Info("taken into the cluster", "cluster", b.Cluster, "name", b.Name, "by", member.Name)
	return b, nil
}

var errNameTaken = errors.New("name taken")

// rename gives a node that nobody named the host's next name: a second node of a
// machine is host-2. It says false for a node that somebody named.
func (m *Member) rename() bool {
	if m.cfg.Settings.Given("name") {
		return false
	}
	m.renamed++
	if m.renamed == 1 {
		m.host = m.cfg.Settings.Name
	}
	m.cfg.Settings.Name = fmt.Sprintf("%s-%d", m.host, m.renamed+1)
	return true
}

// self is this node as meta shall know it.
func (m *Member) self() meta.Node {
	s := m.cfg.Settings
	return meta.Node{
		ID: m.cfg.Identity.Node, Name: s.Name, Boot: m.cfg.Identity.Boot, Life: m.cfg.Identity.Life,
		Addresses: m.cfg.Addresses, Zone: s.Zone, Version: versionText(), Features: meta.Supported(),
	}
}

// Self is this node as meta shall know it.
func (m *Member) Self() meta.Node { return m.self() }

func (m *Member) nodeProto() *peerv1.Node {
	n := m.self()
	return &peerv1.Node{
		NodeId: slices.Clone(n.ID[:]), Name: n.Name, Boot: n.Boot, Life: n.Life,
		GrpcAddress: n.Addresses.GRPC, HttpAddress: n.Addresses.HTTP, PeerAddress: n.Addresses.Peer, GossipAddress: n.Addresses.Gossip,
		Zone: n.Zone, Version: n.Version, Format: m.cfg.Format, FeatureMin: n.Features.Min, FeatureMax: n.Features.Max,
	}
}

func nodeOf(p *peerv1.Node) (meta.Node, error) {
	n := meta.Node{
		Name: p.GetName(), Boot: p.GetBoot(), Life: p.GetLife(), Zone: p.GetZone(), Version: p.GetVersion(),
		Addresses: meta.Addresses{GRPC: p.GetGrpcAddress(), HTTP: p.GetHttpAddress(), Peer: p.GetPeerAddress(), Gossip: p.GetGossipAddress()},
		Features:  meta.Features{Min: p.GetFeatureMin(), Max: p.GetFeatureMax()},
	}
	if len(p.GetNodeId()) != len(identity.NodeID{}) {
		return n, errors.New("node_id: must be 16 bytes")
	}
	copy(n.ID[:], p.GetNodeId())
	return n, nil
}
