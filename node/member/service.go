package member

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/storage"
)

// service answers the calls of other nodes.
type service struct {
	peerv1.UnimplementedPeerServer
	m *Member
}

func versionText() string { return config.Version() }

// ready returns the engine's side of the node, or why there is none yet.
func (s *service) ready() (*Parts, error) {
	if p := s.m.parts.Load(); p != nil {
		return p, nil
	}
	return nil, status.Error(codes.Unavailable, errStarting.Error())
}

// Info implements peerv1.PeerServer.
func (s *service) Info(context.Context, *peerv1.InfoRequest) (*peerv1.InfoResponse, error) {
	id := s.m.cfg.Identity.Node
	out := &peerv1.InfoResponse{
		NodeId: id[:], NodeName: s.m.cfg.Settings.Name, Version: config.Version(), Format: s.m.cfg.Format,
		ClusterName: s.m.cfg.Settings.ClusterName,
	}
	if b := s.m.Belonging(); b != nil {
		out.ClusterId, out.ClusterName, out.Partitions = b.Cluster[:], b.Name, uint32(b.Partitions)
	}
	return out, nil
}

// Join implements peerv1.PeerServer.
func (s *service) Join(ctx context.Context, q *peerv1.JoinRequest) (*peerv1.JoinResponse, error) {
	p, err := s.ready()
	if err != nil {
		return nil, err
	}
	b := s.m.Belonging()
	n, err := nodeOf(q.GetNode())
	switch {
	case err != nil:
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case q.GetClusterName() != b.Name:
		return nil, status.Errorf(codes.FailedPrecondition, "this is cluster %q, not %q: check --cluster-name and --join", b.Name, q.GetClusterName())
	case len(q.GetClusterId()) > 0 && meta.ClusterID(q.GetClusterId()) != b.Cluster:
		return nil, status.Errorf(codes.FailedPrecondition, "this is cluster %s, and the data folder belongs to another: clusters never merge", b.Cluster)
	case q.GetNode().GetFormat() != s.m.cfg.Format:
		return nil, status.Errorf(codes.FailedPrecondition, "storage format %d does not go with %d here: update the older build", q.GetNode().GetFormat(), s.m.cfg.Format)
	}
	if err := s.m.vouchFor(caller(ctx), n, true); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	replica, err := p.Calls.JoinNode(ctx, n)
	if err != nil {
		return nil, joinStatus(err)
	}
	return &peerv1.JoinResponse{
		ClusterId: b.Cluster[:], ClusterName: b.Name, Partitions: uint32(b.Partitions), HashSeed: b.HashSeed, MetaReplica: uint64(replica),
	}, nil
}

// joinStatus tells a refusal from a failure that may pass.
func joinStatus(err error) error {
	refused := refusal(err)
	switch {
	case refused == nil:
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(refused, meta.ErrNameTaken):
		return status.Error(codes.AlreadyExists, refused.Error())
	}
	return status.Error(codes.FailedPrecondition, refused.Error())
}

// refusal is err with what to do about it, if meta will never take this node as it
// is; else nil.
func refusal(err error) error {
	for cause, remedy := range map[error]string{
		meta.ErrNameTaken: "give this one another --name",
		meta.ErrRemoved:   "start it on an empty --data-dir",
		meta.ErrCopy:      "start it on an empty --data-dir",
		meta.ErrFeature:   "update the older build",
		meta.ErrTooMany:   "remove nodes that are gone",
	} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %s", err, remedy)
		}
	}
	if errors.Is(err, meta.ErrInvalid) {
		return err
	}
	return nil
}

// Propose implements peerv1.PeerServer.
func (s *service) Propose(ctx context.Context, q *peerv1.ProposeRequest) (*peerv1.ProposeResponse, error) {
	p, err := s.ready()
	if err != nil {
		return nil, err
	}
	result, err := p.Calls.HandleForwarded(ctx, uint8(q.GetKind()), q.GetBody(), func(n meta.Node, itself bool) error {
		return s.m.vouchFor(caller(ctx), n, itself)
	})
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &peerv1.ProposeResponse{Result: result}, nil
}

// Spread implements peerv1.PeerServer.
func (s *service) Spread(ctx context.Context, q *peerv1.SpreadRequest) (*peerv1.SpreadResponse, error) {
	p, err := s.ready()
	if err != nil {
		return nil, err
	}
	done, err := p.Spread(ctx, q)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &peerv1.SpreadResponse{Done: done}, nil
}

// Report implements peerv1.PeerServer.
func (s *service) Report(context.Context, *peerv1.ReportRequest) (*peerv1.ReportResponse, error) {
	if _, err := s.ready(); err != nil {
		return nil, err
	}
	return s.m.report(), nil
}

// report is what this node's replicas do.
func (m *Member) report() *peerv1.ReportResponse {
	p := m.parts.Load()
	out := &peerv1.ReportResponse{State: gossip.State(m.state.Load()).String()}
	if p.Trouble != nil && out.State == gossip.Serving.String() {
		if t := p.Trouble(); t != "" {
			out.State = t
		}
	}
	if p.DiskFree != nil {
		out.DiskFreeBytes = p.DiskFree()
	}
	for _, g := range p.Engine.Groups() {
		st := p.Engine.Status(g)
		r := &peerv1.GroupReport{
			Group: uint32(g), Replica: uint64(st.Replica), Leader: uint64(st.Leader), Term: st.Term,
			Commit: m.acked.index(g, st.Term, st.Commit), Applied: st.Applied,
			Voters: numbers(voting(&st.Conf)), Learners: numbers(st.Conf.Learners), Moves: m.moving(g),
		}
		if st.Err != nil {
			r.Error = st.Err.Error()
		}
		for _, x := range st.Progress {
			r.Progress = append(r.Progress, &peerv1.ReplicaProgress{Replica: uint64(x.Replica), Match: x.Match, Active: x.Active, Learner: x.Learner})
		}
		out.Groups = append(out.Groups, r)
	}
	return out
}

// voting are the voters, while they change those before as well: both have a say.
func voting(c *replica.Conf) []storage.ReplicaID {
	all := slices.Concat(c.Voters, c.Outgoing)
	slices.Sort(all)
	return slices.Compact(all)
}

func numbers(ids []storage.ReplicaID) []uint64 {
	out := make([]uint64, len(ids))
	for i, id := range ids {
		out[i] = uint64(id)
	}
	return out
}

// Forward implements meta.Forwarder: it carries a command to the node that leads
// the meta group, as far as this node knows.
func (m *Member) Forward(ctx context.Context, kind uint8, body []byte) ([]byte, error) {
	p := m.parts.Load()
	if p == nil {
		return nil, errStarting
	}
	addr, err := m.metaLeader(p)
	if err != nil {
		return nil, err
	}
	peer, err := m.pool.Peer(addr)
	if err != nil {
		return nil, err
	}
	answer, err := peer.Propose(ctx, &peerv1.ProposeRequest{Kind: uint32(kind), Body: body})
	if err != nil {
		return nil, err
	}
	return answer.GetResult(), nil
}

var errNoLeader = errors.New("the meta group has no leader that this node knows of")

var errNoAddress = errors.New("nobody knows where the node is")

func (m *Member) metaLeader(p *Parts) (addr string, err error) {
	st := p.Engine.Status(meta.MetaGroup)
	if st.Err != nil {
		return m.metaVoter(p)
	}
	if st.Leader == 0 {
		return "", errNoLeader
	}
	n, ok := p.Meta.View().NodeOf(meta.MetaGroup, st.Leader)
	if !ok || n == m.cfg.Identity.Node {
		return "", errNoLeader
	}
	if addr, ok = m.callee(n); !ok {
		return "", fmt.Errorf("%w: nobody knows where node %s is", errNoLeader, n)
	}
	return addr, nil
}

// metaVoter is one of those that vote in meta, another one at each call: for a node
// whose own replica stopped, and which hears of no leader.
func (m *Member) metaVoter(p *Parts) (addr string, err error) {
	var voters []identity.NodeID
	for _, r := range p.Meta.View().Wish(meta.MetaGroup) {
		if r.Role == meta.Voter && r.Node != m.cfg.Identity.Node {
			voters = append(voters, r.Node)
		}
	}
	if len(voters) == 0 {
		return "", errNoLeader
	}
	n := voters[int(m.turn.Add(1))%len(voters)]
	addr, ok := m.callee(n)
	if !ok {
		return "", fmt.Errorf("%w: nobody knows where node %s is", errNoLeader, n)
	}
	return addr, nil
}

// PeerAddress is where another node's peer port is, as far as this one knows.
func (m *Member) PeerAddress(n identity.NodeID) (string, bool) { return m.callee(n) }
