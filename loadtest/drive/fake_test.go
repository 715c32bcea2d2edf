package drive

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waystation/waystation/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRelay numbers packets and keeps them, and misbehaves as told. Its answers
// come from one goroutine, a batch at a time, as those of a client do.
type fakeRelay struct {
	// onPublish may change or refuse what becomes of the n-th packet, from 0.
	onPublish func(n int, o *outcome)
	// stall is called before the n-th packet is looked at, and may take its time.
	stall func(n int)

	mu      sync.Mutex
	n       int
	stored  map[string][]client.StoredPacket
	ids     map[string]uint64
	pending []func()
	wake    chan struct{}
	done    sync.WaitGroup
	highest int // packets in flight at the same time
	flight  int
}

// outcome is what the relay does with a packet.
type outcome struct {
	receipt client.Receipt
	err     error
	store   bool
}

func newFakeRelay(t *testing.T, onPublish func(int, *outcome)) *fakeRelay {
	f := &fakeRelay{
		onPublish: onPublish, stored: map[string][]client.StoredPacket{}, ids: map[string]uint64{},
		wake: make(chan struct{}, 1),
	}
	stop := make(chan struct{})
	f.done.Go(func() {
		for {
			select {
			case <-f.wake:
				f.answer()
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); f.done.Wait() })
	return f
}

func (f *fakeRelay) answer() {
	f.mu.Lock()
	batch := f.pending
	f.pending = nil
	f.flight -= len(batch)
	f.mu.Unlock()
	for _, answer := range batch {
		answer()
	}
}

func (f *fakeRelay) PublishAsync(_ context.Context, p *client.Packet, done func(client.Receipt, error)) error {
	if f.stall != nil {
		f.mu.Lock()
		n := f.n
		f.mu.Unlock()
		f.stall(n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := outcome{store: true, receipt: client.Receipt{RepoID: p.RepoID, PacketID: p.PacketID}}
	o.receipt.Sequence = uint64(len(f.stored[p.RepoID])) + 1
	if number, known := f.ids[p.RepoID+p.PacketID]; p.PacketID != "" && known {
		o.receipt.Sequence, o.receipt.Duplicate, o.store = number, true, false
	}
	if f.onPublish != nil {
		f.onPublish(f.n, &o)
	}
	f.n++
	if o.store && o.err == nil {
		stored := client.StoredPacket{Packet: *p, Sequence: uint64(len(f.stored[p.RepoID])) + 1}
		stored.Content = append([]byte(nil), p.Content...)
		stored.Metadata = map[string]string{}
		for k, v := range p.Metadata {
			stored.Metadata[k] = v
		}
		f.stored[p.RepoID] = append(f.stored[p.RepoID], stored)
		f.ids[p.RepoID+p.PacketID] = o.receipt.Sequence
	}
	f.flight++
	f.highest = max(f.highest, f.flight)
	f.pending = append(f.pending, func() {
		if o.err != nil {
			done(client.Receipt{}, o.err)
			return
		}
		done(o.receipt, nil)
	})
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return nil
}

func (f *fakeRelay) Flush(ctx context.Context) error {
	for {
		f.mu.Lock()
		left := f.flight
		f.mu.Unlock()
		if left == 0 {
			return nil
		}
		if !sleep(ctx, time.Millisecond) {
			return errors.New("flush: time is up")
		}
	}
}

func (f *fakeRelay) ReadPackets(_ context.Context, repo string, from uint64, limit int) ([]client.StoredPacket, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.stored[repo]
	if len(all) == 0 {
		return nil, 0, &client.Error{Code: client.CodeNotFound}
	}
	if limit > 7 {
		return nil, 0, &client.Error{Code: client.CodeResourceExhausted}
	}
	var page []client.StoredPacket
	for _, p := range all {
		if p.Sequence >= from && len(page) < limit {
			page = append(page, p)
		}
	}
	return page, all[len(all)-1].Sequence, nil
}
