package api

import (
	"context"
	"sync"

	"github.com/waystation/waystation/actors"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// outcome is what became of one packet: a receipt, or an error.
type outcome struct {
	receipt *waystationv1.Receipt
	err     *callError
}

func (o *outcome) json(*wire.PacketFields) jsonResult {
	if o.err != nil {
		return jsonResult{Error: errorJSON(o.err.proto())}
	}
	return jsonResult{Receipt: &ReceiptJSON{
		RepoID: o.receipt.GetRepoId(), PacketID: o.receipt.GetPacketId(), Sequence: o.receipt.GetSequence(),
		Duplicate: o.receipt.GetDuplicate(), ContentDiffers: o.receipt.GetContentDiffers(),
	}}
}

// waiter collects the answers to the packets of one call.
type waiter struct {
	mu   sync.Mutex
	got  []outcome
	left int
	done chan struct{} // closed with the last answer
}

// Results implements actors.Sink.
func (w *waiter) Results(rs []actors.PublishResult) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range rs {
		w.got[rs[i].Index] = outcomeOf(&rs[i])
	}
	if w.left -= len(rs); w.left == 0 {
		close(w.done)
	}
}

func outcomeOf(r *actors.PublishResult) outcome {
	if r.Refusal != nil {
		return outcome{err: refused(r.Refusal)}
	}
	return outcome{receipt: &waystationv1.Receipt{
		RepoId: string(r.Repo), PacketId: string(r.ID), Sequence: uint64(r.Seq),
		Duplicate: r.Duplicate, ContentDiffers: r.ContentDiffers,
	}}
}

// publish offers packets and waits for all their answers, or for the end of ctx:
// then what has no answer yet is of unknown outcome. size is the memory that the
// packets alias; release is called once when they are needed no more.
func (c *Calls) publish(ctx context.Context, packets []wire.Packet, size int, release func()) ([]outcome, error) {
	if err := c.open(); err != nil {
		release()
		return nil, err
	}
	w := &waiter{got: make([]outcome, len(packets)), left: len(packets), done: make(chan struct{})}
	c.relay.Offer(&actors.Frame{Packets: packets, Bytes: size, Release: release}, w)
	select {
	case <-w.done:
		return w.got, nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	got := append([]outcome(nil), w.got...)
	for i := range got {
		if got[i].receipt == nil && got[i].err == nil {
			got[i].err = errorOf(ctx.Err())
		}
	}
	return got, nil
}
