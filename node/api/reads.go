package api

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// Reads looks at what is there, and ends dead letters. actors.DeliveryService does it.
type Reads interface {
	Lookup(ctx context.Context, repo string, seq repository.Seq, id string) (*actors.PacketInfo, error)
	ReadPackets(ctx context.Context, repo string, from repository.Seq, limit uint32) ([]actors.StoredPacket, repository.Seq, error)
	Repository(ctx context.Context, repo string) (*actors.RepositoryInfo, error)
	DeadLetters(ctx context.Context, q actors.DeadQuery) ([]actors.DeadLetter, string, error)
	Result(ctx context.Context, q actors.ResultQuery) (*actors.PacketResult, error)
	EndDead(ctx context.Context, o actors.DeadOrder) (actors.DeadDone, error)
}

// lookup answers a LookupPacketResponse, with the packet's bytes as they were sent.
func (c *Calls) lookup(ctx context.Context, q *waystationv1.LookupPacketRequest) (*codec.Raw, error) {
	info, err := c.delivery.Lookup(ctx, q.GetRepoId(), repository.Seq(q.GetSequence()), q.GetPacketId())
	if err != nil {
		return nil, err
	}
	var b []byte
	if p := info.Stored; p != nil {
		b = appendStored(b, p)
	}
	rest := &waystationv1.LookupPacketResponse{Sequence: uint64(info.Seq)}
	for i := range info.Groups {
		g := &info.Groups[i]
		rest.Groups = append(rest.Groups, &waystationv1.PacketState{
			Group: g.Group, State: g.State, Attempts: g.Attempts, Reason: g.Reason, LastError: g.LastError, Result: g.Result,
		})
	}
	return appendRest(b, rest)
}

// readPackets answers a ReadPacketsResponse.
func (c *Calls) readPackets(ctx context.Context, q *waystationv1.ReadPacketsRequest) (*codec.Raw, error) {
	packets, head, err := c.delivery.ReadPackets(ctx, q.GetRepoId(), repository.Seq(q.GetFrom()), q.GetLimit())
	if err != nil {
		return nil, err
	}
	size := 0
	for i := range packets {
		size += len(packets[i].Packet) + 64
	}
	b := make([]byte, 0, size)
	for i := range packets {
		b = appendStored(b, &packets[i])
	}
	return appendRest(b, &waystationv1.ReadPacketsResponse{Head: uint64(head)})
}

// appendStored appends a packet as field 1, which it is in both answers.
func appendStored(b []byte, p *actors.StoredPacket) []byte {
	return wire.AppendStoredPacket(b, &wire.StoredView{
		Packet: p.Packet, Sequence: uint64(p.Seq), AcceptedMs: p.AcceptedMs,
	})
}

func (c *Calls) repository(ctx context.Context, q *waystationv1.GetRepositoryRequest) (*waystationv1.GetRepositoryResponse, error) {
	info, err := c.delivery.Repository(ctx, q.GetRepoId())
	if err != nil {
		return nil, err
	}
	out := &waystationv1.GetRepositoryResponse{
		RepoId: q.GetRepoId(), Head: uint64(info.Head), Backlog: info.Backlog, BacklogBytes: info.BacklogBytes,
		Partition: uint32(info.Partition), Parked: info.Parked || c.relay.Parked(q.GetRepoId()),
	}
	for i := range info.Groups {
		g := &info.Groups[i]
		out.Groups = append(out.Groups, &waystationv1.GroupCursor{
			Group: g.Group, Attempts: g.Attempts, LeaseToken: uint64(g.Token), Waiting: g.Waiting,
			LeasedUntil: msStamp(g.LeasedUntilMs), ReadyAt: msStamp(g.ReadyMs),
			Cursors: &waystationv1.Cursors{
				High:   uint64(g.Cursors[repository.RankHigh]),
				Normal: uint64(g.Cursors[repository.RankNormal]),
				Low:    uint64(g.Cursors[repository.RankLow]),
			},
		})
	}
	return out, nil
}

// appendRest appends the other fields of an answer to what was encoded of it.
func appendRest(b []byte, rest proto.Message) (*codec.Raw, error) {
	b, err := proto.MarshalOptions{}.MarshalAppend(b, rest)
	if err != nil {
		return nil, &callError{Code: actors.CodeInternal, Message: err.Error()}
	}
	return &codec.Raw{Bytes: b}, nil
}
