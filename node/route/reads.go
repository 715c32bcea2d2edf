package route

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// Lookup implements api.Reads.
func (x routedDelivery) Lookup(ctx context.Context, repo string, seq repository.Seq, id string) (*actors.PacketInfo, error) {
	r := x.r
	p := r.partitionOf([]byte(repo))
	to, err := r.placeOf(p)
	if err != nil {
		return nil, err
	}
	if to.addr == "" {
		return r.delivery.Lookup(ctx, repo, seq, id)
	}
	b, err := r.raw(ctx, to, p, waystationv1.Waystation_LookupPacket_FullMethodName,
		&waystationv1.LookupPacketRequest{RepoId: repo, Sequence: uint64(seq), PacketId: id})
	if err != nil {
		return nil, err
	}
	var a waystationv1.LookupPacketResponse
	if err := proto.Unmarshal(b, &a); err != nil {
		return nil, damaged(err)
	}
	info := &actors.PacketInfo{Seq: repository.Seq(a.GetSequence())}
	for _, g := range a.GetGroups() {
		info.Groups = append(info.Groups, actors.PacketState{
			Group: g.GetGroup(), State: g.GetState(), Attempts: g.GetAttempts(), Reason: g.GetReason(), LastError: g.GetLastError(), Result: g.GetResult(),
		})
	}
	list, err := stored(b)
	if err != nil {
		return nil, err
	}
	if len(list) > 0 {
		info.Stored = &list[0]
	}
	return info, nil
}

// stored reads the stored packets of an answer, in the bytes in which they were sent.
func stored(answer []byte) (list []actors.StoredPacket, err error) {
	err = wire.WalkFirst(answer, func(b []byte) error {
		var v wire.StoredView
		if err := v.Parse(b); err != nil {
			return err
		}
		list = append(list, actors.StoredPacket{Seq: repository.Seq(v.Sequence), AcceptedMs: v.AcceptedMs, Packet: v.Packet})
		return nil
	})
	if err != nil {
		return nil, damaged(err)
	}
	return list, nil
}

func damaged(err error) error {
	return &actors.Refusal{Code: actors.CodeInternal, Message: "answer of another node: " + err.Error()}
}

// ReadPackets implements api.Reads.
func (x routedDelivery) ReadPackets(ctx context.Context, repo string, from repository.Seq, limit uint32) ([]actors.StoredPacket, repository.Seq, error) {
	r := x.r
	p := r.partitionOf([]byte(repo))
	to, err := r.placeOf(p)
	if err != nil {
		return nil, 0, err
	}
	if to.addr == "" {
		return r.delivery.ReadPackets(ctx, repo, from, limit)
	}
	b, err := r.raw(ctx, to, p, waystationv1.Waystation_ReadPackets_FullMethodName,
		&waystationv1.ReadPacketsRequest{RepoId: repo, From: uint64(from), Limit: limit})
	if err != nil {
		return nil, 0, err
	}
	list, err := stored(b)
	if err != nil {
		return nil, 0, err
	}
	// What is left of the message without its packets is the head alone.
	var head uint64
	if head, err = wire.UintField(b, 2); err != nil {
		return nil, 0, damaged(err)
	}
	return list, repository.Seq(head), nil
}

// Repository implements api.Reads.
func (x routedDelivery) Repository(ctx context.Context, repo string) (*actors.RepositoryInfo, error) {
	r := x.r
	p := r.partitionOf([]byte(repo))
	to, err := r.placeOf(p)
	if err != nil {
		return nil, err
	}
	if to.addr == "" {
		return r.delivery.Repository(ctx, repo)
	}
	var a waystationv1.GetRepositoryResponse
	if err := r.call(ctx, to, p, waystationv1.Waystation_GetRepository_FullMethodName, &waystationv1.GetRepositoryRequest{RepoId: repo}, &a); err != nil {
		return nil, err
	}
	info := &actors.RepositoryInfo{Partition: repository.PartitionID(a.GetPartition()), Parked: a.GetParked()}
	info.Head, info.Backlog, info.BacklogBytes = repository.Seq(a.GetHead()), a.GetBacklog(), a.GetBacklogBytes()
	for _, g := range a.GetGroups() {
		c := actors.GroupCursor{
			Group: g.GetGroup(), Attempts: g.GetAttempts(), Token: repository.Token(g.GetLeaseToken()), Waiting: g.GetWaiting(),
			LeasedUntilMs: stampMs(g.GetLeasedUntil()), ReadyMs: stampMs(g.GetReadyAt()),
		}
		c.Cursors[repository.RankHigh] = repository.Seq(g.GetCursors().GetHigh())
		c.Cursors[repository.RankNormal] = repository.Seq(g.GetCursors().GetNormal())
		c.Cursors[repository.RankLow] = repository.Seq(g.GetCursors().GetLow())
		info.Groups = append(info.Groups, c)
	}
	return info, nil
}

// stampOf is a time of milliseconds; nil for 0, which is none.
func stampOf(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(ms))
}

// stampMs is a time in milliseconds; 0 for none.
func stampMs(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().UnixMilli()
}
