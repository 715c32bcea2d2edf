package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// StoredPacket is a packet as the relay keeps it.
type StoredPacket struct {
	Packet
	// Sequence is the packet's number in its repository.
	Sequence uint64
	// AcceptedAt is the relay's log time.
	AcceptedAt time.Time
}

// PacketState is a packet's state in one group.
type PacketState struct {
	Group string
	// State is one of waiting, leased, done, dead.
	State     string
	Attempts  uint32
	Reason    string
	LastError string
	Result    []byte
}

// PacketInfo is the answer of Lookup.
type PacketInfo struct {
	// Packet is nil when the number is known and the content no longer kept.
	Packet   *StoredPacket
	Sequence uint64
	Groups   []PacketState
}

// Lookup returns one packet of repo and its state in each group, by its number.
// Without such a packet the error has the code NOT_FOUND.
func (c *Client) Lookup(ctx context.Context, repo string, sequence uint64) (*PacketInfo, error) {
	return c.lookup(ctx, &waystationv1.LookupPacketRequest{RepoId: repo, Sequence: sequence})
}

// LookupID is Lookup by packet id.
func (c *Client) LookupID(ctx context.Context, repo, packetID string) (*PacketInfo, error) {
	return c.lookup(ctx, &waystationv1.LookupPacketRequest{RepoId: repo, PacketId: packetID})
}

func (c *Client) lookup(ctx context.Context, req *waystationv1.LookupPacketRequest) (*PacketInfo, error) {
	var resp *waystationv1.LookupPacketResponse
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.LookupPacket(ctx, req)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lookup packet in %s: %w", req.GetRepoId(), err)
	}
	info := &PacketInfo{Sequence: resp.GetSequence()}
	if resp.GetPacket() != nil {
		p := storedFrom(resp.GetPacket())
		info.Packet = &p
	}
	for _, g := range resp.GetGroups() {
		info.Groups = append(info.Groups, PacketState{
			Group: g.GetGroup(), State: g.GetState(), Attempts: g.GetAttempts(),
			Reason: g.GetReason(), LastError: g.GetLastError(), Result: g.GetResult(),
		})
	}
	return info, nil
}

// ReadPackets returns up to limit retained packets of repo in order, without a
// lease, from a sequence number on (0: the earliest retained), and the number of
// the newest packet. limit is at most 1,000; 0: 100.
func (c *Client) ReadPackets(ctx context.Context, repo string, from uint64, limit int) ([]StoredPacket, uint64, error) {
	req := &waystationv1.ReadPacketsRequest{RepoId: repo, From: from, Limit: clampU32(limit)}
	var resp *waystationv1.ReadPacketsResponse
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.ReadPackets(ctx, req)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read packets of %s: %w", repo, err)
	}
	packets := make([]StoredPacket, len(resp.GetPackets()))
	for i, p := range resp.GetPackets() {
		packets[i] = storedFrom(p)
	}
	return packets, resp.GetHead(), nil
}

// GroupCursor is where a group stands in a repository.
type GroupCursor struct {
	Group string
	// High, Normal and Low are the last settled sequence numbers by priority.
	High, Normal, Low uint64
	// LeasedUntil is zero when nobody holds the lease.
	LeasedUntil time.Time
	// Attempts of the head packet.
	Attempts   uint32
	LeaseToken uint64
	// ReadyAt is when the lane may run next, when it is backing off or delayed.
	ReadyAt time.Time
	Waiting uint64
}

// RepositoryInfo is the answer of Repository.
type RepositoryInfo struct {
	RepoID string
	// Head is the newest sequence number.
	Head uint64
	// Backlog counts retained packets, BacklogBytes their content.
	Backlog, BacklogBytes uint64
	Groups                []GroupCursor
	Partition             uint32
	// Parked: the repository's actor kept failing and is stopped for now.
	Parked bool
}

// Repository returns a repository's head, backlog and cursors.
func (c *Client) Repository(ctx context.Context, repo string) (*RepositoryInfo, error) {
	var resp *waystationv1.GetRepositoryResponse
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.GetRepository(ctx, &waystationv1.GetRepositoryRequest{RepoId: repo})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get repository %s: %w", repo, err)
	}
	info := &RepositoryInfo{
		RepoID: resp.GetRepoId(), Head: resp.GetHead(), Backlog: resp.GetBacklog(),
		BacklogBytes: resp.GetBacklogBytes(), Partition: resp.GetPartition(), Parked: resp.GetParked(),
	}
	for _, g := range resp.GetGroups() {
		info.Groups = append(info.Groups, GroupCursor{
			Group: g.GetGroup(), High: g.GetCursors().GetHigh(), Normal: g.GetCursors().GetNormal(),
			Low: g.GetCursors().GetLow(), LeasedUntil: timeFrom(g.GetLeasedUntil()), Attempts: g.GetAttempts(),
			LeaseToken: g.GetLeaseToken(), ReadyAt: timeFrom(g.GetReadyAt()), Waiting: g.GetWaiting(),
		})
	}
	return info, nil
}

func storedFrom(s *waystationv1.StoredPacket) StoredPacket {
	p := s.GetPacket()
	return StoredPacket{
		Packet: Packet{
			RepoID: p.GetRepoId(), Content: p.GetContent(), Metadata: p.GetMetadata(), PacketID: p.GetPacketId(),
			Priority: Priority(p.GetPriority()), ContentEncoding: ContentEncoding(p.GetContentEncoding()),
			Kind: p.GetKind(), TimeToLive: p.GetTimeToLive().AsDuration(), DeliverAfter: p.GetDeliverAfter().AsDuration(),
			CreatedAt: timeFrom(p.GetCreatedAt()), Traceparent: p.GetTraceparent(),
		},
		Sequence:   s.GetSequence(),
		AcceptedAt: timeFrom(s.GetAcceptedAt()),
	}
}

func timeFrom(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
