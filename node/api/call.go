package api

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

const (
	defaultCallMs = 30_000
	mostWaitMs    = 60_000
	// groupPatience is how long a call waits for its group: the first worker may be
	// about to make it.
	groupPatience = 5 * time.Second
	groupLook     = 50 * time.Millisecond
	// pauseCall is the least pause before a packet is sent again.
	pauseCall = 10 * time.Millisecond
)

// result answers a GetResult.
func (c *Calls) result(ctx context.Context, q *waystationv1.GetResultRequest) (*waystationv1.GetResultResponse, error) {
	x, err := c.await(ctx, actors.ResultQuery{
		Repo: q.GetRepoId(), Group: q.GetGroup(), Seq: repository.Seq(q.GetSequence()), ID: q.GetPacketId(),
		WaitMs: q.GetWaitMs(), Empty: q.GetEmpty(),
	})
	if err != nil {
		return nil, err
	}
	return &waystationv1.GetResultResponse{Result: x}, nil
}

// await asks for a result. A drain ends its waiting: the caller goes on elsewhere.
func (c *Calls) await(ctx context.Context, q actors.ResultQuery) (*waystationv1.PacketResult, error) {
	waiting, done := c.untilDrain(ctx)
	defer done()
	x, err := c.delivery.Result(waiting, q)
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			return nil, errDraining
		}
		return nil, err
	}
	out := &waystationv1.PacketResult{
		RepoId: q.Repo, Sequence: uint64(x.Seq), Group: q.Group, State: string(x.State), ExpiresAt: msStamp(x.ExpiresMs),
		Reason: x.Reason, Attempts: x.Attempts, LastError: x.LastError,
	}
	if x.Kept {
		out.Result = x.Result
		if out.Result == nil {
			out.Result = []byte{}
		}
	}
	return out, nil
}

// untilDrain is ctx, ended by a drain; done must be called.
func (c *Calls) untilDrain(ctx context.Context) (waiting context.Context, done func()) {
	waiting, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		select {
		case <-c.health.Draining():
			cancel(errDraining)
		case <-ended:
		}
	}()
	return waiting, func() {
		close(ended)
		cancel(nil)
	}
}

// call answers a Call.
func (c *Calls) call(ctx context.Context, q *waystationv1.CallRequest) (*waystationv1.CallResponse, error) {
	if q.GetPacket() == nil {
		return nil, invalid("packet", "is missing")
	}
	if q.GetPacket().GetPacketId() == "" && q.GetPacket().GetPosition() == nil {
		q.Packet.PacketId = rand.Text() // what has neither cannot be sent again
	}
	frame, err := proto.Marshal(&waystationv1.PublishRequest{Packet: q.GetPacket()})
	if err != nil {
		return nil, invalid("packet", err.Error())
	}
	return c.callFrame(ctx, frame, q.GetGroup(), q.GetWaitMs(), func() {})
}

// callFrame publishes the one packet of a frame and waits for its result, all within
// waitMs. release is called once the frame is needed no more.
func (c *Calls) callFrame(ctx context.Context, frame []byte, group string, waitMs uint32, release func()) (*waystationv1.CallResponse, error) {
	release = sync.OnceFunc(release)
	defer release()
	if waitMs > mostWaitMs {
		return nil, invalid("wait_ms", "must be at most 60,000")
	}
	if waitMs == 0 {
		waitMs = defaultCallMs
	}
	begun, wait := time.Now(), time.Duration(waitMs)*time.Millisecond
	if err := c.meetGroup(ctx, group, min(wait, groupPatience)); err != nil {
		return nil, err
	}
	receipt, err := c.publishSurely(ctx, frame, begun.Add(wait))
	release() // the wait for the result needs nothing of it
	if err != nil {
		return nil, err
	}
	left := max(wait-time.Since(begun), time.Millisecond)
	x, err := c.await(ctx, actors.ResultQuery{
		Repo: receipt.GetRepoId(), Group: group, Seq: repository.Seq(receipt.GetSequence()), WaitMs: uint32(max(left.Milliseconds(), 1)), Empty: true,
	})
	if err != nil {
		return nil, err
	}
	return &waystationv1.CallResponse{Receipt: receipt, Result: x}, nil
}

// meetGroup waits for a group that is not there yet. Nothing is published for one that
// does not come: a packet that nobody asks for would wait for its retention's end.
func (c *Calls) meetGroup(ctx context.Context, name string, patience time.Duration) error {
	if err := actors.CheckGroup(name); err != nil {
		return err
	}
	for begun := time.Now(); ; {
		list, err := c.cluster.Groups()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(g *waystationv1.Group) bool { return g.GetName() == name }) {
			return nil
		}
		if time.Since(begun) >= patience {
			return &callError{Code: actors.CodeNotFound, Field: "group", Message: "there is no such group: its first worker makes it, or `group create`; nothing was published"}
		}
		select {
		case <-time.After(groupLook):
		case <-c.health.Draining():
			return errDraining
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publishSurely publishes a packet, and sends it again under the same id or position
// where its outcome is unknown or it cannot be taken at the moment, until then.
func (c *Calls) publishSurely(ctx context.Context, frame []byte, until time.Time) (*waystationv1.Receipt, error) {
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		x, err := c.publishFrame(limited, frame)
		if err != nil {
			return nil, err
		}
		if x.err == nil {
			return x.receipt, nil
		}
		again := x.err.Code == actors.CodeUnavailable || x.err.Code == actors.CodeUnknown
		pause := max(x.err.RetryAfter, pauseCall)
		if !again || time.Until(until) <= pause {
			return nil, x.err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *Calls) publishFrame(ctx context.Context, frame []byte) (outcome, error) {
	own := slices.Clone(frame) // an answer that came too late may still be on its way
	packets, err := c.limits.WalkFrame(own, make([]wire.Packet, 0, 1))
	if err != nil {
		return outcome{}, err
	}
	if len(packets) != 1 {
		return outcome{}, invalid("packet", "is missing, or is there twice: send one")
	}
	outcomes, err := c.publish(ctx, packets, len(own), func() {})
	if err != nil {
		return outcome{}, err
	}
	return outcomes[0], nil
}
