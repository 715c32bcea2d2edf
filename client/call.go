package client

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// ResultState is what became of a packet in a group.
type ResultState string

// The states.
const (
	// ResultPending: it is not settled yet.
	ResultPending ResultState = "pending"
	// ResultDone: a worker settled it as done.
	ResultDone ResultState = "done"
	// ResultDead: it is a dead letter.
	ResultDead ResultState = "dead"
)

// PacketResult is what became of a packet in a group.
type PacketResult struct {
	RepoID string
	// Sequence is the packet's number: of one that was redriven, the newest.
	Sequence uint64
	// PacketID is the packet's; Result leaves it empty.
	PacketID string
	Group    string
	State    ResultState
	// Value is what the worker left, where Kept says so: it may be empty.
	Value []byte
	// Kept: the relay has a result. Else the worker left none, or its time is over.
	Kept bool
	// ExpiresAt is until when the result is kept, on the relay's clock.
	ExpiresAt time.Time
	// Reason, Attempts and LastError say why a packet is dead.
	Reason    string
	Attempts  uint32
	LastError string
}

// DeadError is what Call ends with when the packet becomes a dead letter.
type DeadError struct{ PacketResult }

// Error says why the packet is dead.
func (e *DeadError) Error() string {
	text := fmt.Sprintf("packet %d of %s is a dead letter of %s: %s", e.Sequence, e.RepoID, e.Group, e.Reason)
	if e.LastError != "" {
		text += ": " + e.LastError
	}
	return text
}

// waitOnce is how long one call to a node waits; longer waits are several.
const waitOnce = 20 * time.Second

// Call publishes p and waits until a worker of the group has settled it, and returns
// what it left: request and reply. It blocks until ctx ends, and goes on at another node,
// or another leader, where one is lost.
//
// It may be called again under the same packet id, by anybody: then the packet does not
// run again, and the answer is the one that is kept, for the group's result_ttl. Without
// a PacketID it is given one, which only this call knows. Call sends no position: with
// other packets of the repository, sent by Publish at the same time, it has no order.
//
// A packet that is a dead letter ends it with a *DeadError. When ctx ends, the packet
// may be published or not, and runs if it is: call again, or see Result.
func (c *Client) Call(ctx context.Context, p *Packet, group string) (*PacketResult, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("call %s: %w", p.RepoID, err)
	}
	req := &waystationv1.CallRequest{Packet: p.proto(), Group: group}
	if req.GetPacket().GetPacketId() == "" {
		req.Packet.PacketId = randomName()
	}
	var x *PacketResult
	err := c.patiently(ctx, func(ctx context.Context, s waystationv1.WaystationClient) error {
		if x == nil { // else it is published, and only its end is to be waited for
			req.WaitMs = waitMs(ctx)
			resp, err := s.Call(ctx, req)
			if err == nil {
				x = resultFrom(resp.GetResult())
				x.PacketID = resp.GetReceipt().GetPacketId()
			}
			return err
		}
		resp, err := s.GetResult(ctx, &waystationv1.GetResultRequest{
			RepoId: p.RepoID, Group: group, Sequence: x.Sequence, WaitMs: waitMs(ctx), Empty: true,
		})
		if err == nil {
			id := x.PacketID
			x = resultFrom(resp.GetResult())
			x.PacketID = id
		}
		return err
	}, func() bool { return x.State != ResultPending })
	switch {
	case err != nil:
		return nil, fmt.Errorf("call %s: %w", p.RepoID, err)
	case x.State == ResultDead:
		return nil, fmt.Errorf("call %s: %w", p.RepoID, &DeadError{*x})
	}
	return x, nil
}

// Result returns what a worker of the group left with the packet of this number. A
// packet that is not settled yet, and one that is dead, are answers, not errors. The
// error has the code NOT_FOUND if there is no such packet, or nothing is kept of it.
func (c *Client) Result(ctx context.Context, repo string, sequence uint64, group string) (*PacketResult, error) {
	return c.result(ctx, &waystationv1.GetResultRequest{RepoId: repo, Sequence: sequence, Group: group})
}

// ResultID is Result by packet id.
func (c *Client) ResultID(ctx context.Context, repo, packetID, group string) (*PacketResult, error) {
	return c.result(ctx, &waystationv1.GetResultRequest{RepoId: repo, PacketId: packetID, Group: group})
}

func (c *Client) result(ctx context.Context, req *waystationv1.GetResultRequest) (*PacketResult, error) {
	var resp *waystationv1.GetResultResponse
	err := c.call(ctx, func(ctx context.Context, s waystationv1.WaystationClient) (err error) {
		resp, err = s.GetResult(ctx, req)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("result of a packet in %s: %w", req.GetRepoId(), err)
	}
	return resultFrom(resp.GetResult()), nil
}

// patiently makes a call until over says so, ctx ends, or it fails for good.
func (c *Client) patiently(ctx context.Context, do func(context.Context, waystationv1.WaystationClient) error, over func() bool) error {
	for failures := 0; ; {
		err := c.call(ctx, do)
		if err == nil {
			if over() {
				return nil
			}
			failures = 0
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		var e *Error
		if ctx.Err() != nil || !errors.As(err, &e) || !e.Retriable() {
			return err
		}
		failures++
		if err := pause(ctx, c.cfg.retry.wait(failures, e.RetryAfter)); err != nil {
			return err
		}
	}
}

// waitMs is how long a node may wait for a result, within ctx.
func waitMs(ctx context.Context) uint32 {
	wait := waitOnce
	if at, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(at)*9/10) // so that the node's answer comes in time
	}
	return uint32(max(wait.Milliseconds(), 1))
}

func resultFrom(x *waystationv1.PacketResult) *PacketResult {
	out := &PacketResult{
		RepoID: x.GetRepoId(), Sequence: x.GetSequence(), Group: x.GetGroup(), State: ResultState(x.GetState()),
		Value: x.GetResult(), Kept: x != nil && x.Result != nil, Reason: x.GetReason(), Attempts: x.GetAttempts(), LastError: x.GetLastError(),
	}
	if at := x.GetExpiresAt(); at != nil {
		out.ExpiresAt = at.AsTime()
	}
	return out
}

// proto is the packet as a message, without a position.
func (p *Packet) proto() *waystationv1.CodePacket {
	crc := crc32.Checksum(p.Content, castagnoli)
	out := &waystationv1.CodePacket{
		RepoId: p.RepoID, Content: p.Content, Metadata: p.Metadata, PacketId: p.PacketID, Priority: waystationv1.Priority(p.Priority),
		ContentEncoding: waystationv1.ContentEncoding(p.ContentEncoding), Kind: p.Kind, Traceparent: p.Traceparent, ContentCrc32C: &crc,
	}
	if d := p.TimeToLive.Truncate(time.Millisecond); d > 0 {
		out.TimeToLive = durationpb.New(d)
	}
	if d := p.DeliverAfter.Truncate(time.Millisecond); d > 0 {
		out.DeliverAfter = durationpb.New(d)
	}
	if !p.CreatedAt.IsZero() {
		out.CreatedAt = timestamppb.New(p.CreatedAt)
	}
	return out
}
