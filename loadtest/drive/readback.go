package drive

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/verify"
)

// Reader is what a read-back needs of a client.
type Reader interface {
	ReadPackets(ctx context.Context, repo string, from uint64, limit int) ([]client.StoredPacket, uint64, error)
}

// readback looks every repository through, from the first packet to the last,
// and has the verifier know what is there.
type readback struct {
	reader   Reader
	verifier *verify.Verifier
	names    *names
	// done counts repositories, found packets.
	done, found atomic.Int64
}

const readPage = 500

// run errs when a repository could not be read to its end: what was not read
// is not known to be lost.
func (b *readback) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ctx.Err() == nil {
				r := int(next.Add(1)) - 1
				if r >= len(b.names.repos) {
					return
				}
				if err := b.read(ctx, r); err != nil {
					cancel(fmt.Errorf("read back %s: %w", b.names.repos[r], err))
				}
				b.done.Add(1)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (b *readback) read(ctx context.Context, r int) error {
	limit := readPage
	for from := uint64(1); ; {
		packets, head, err := b.reader.ReadPackets(ctx, b.names.repos[r], from, limit)
		switch code := client.ErrorCode(err); {
		case code == client.CodeNotFound:
			return nil
		case code == client.CodeResourceExhausted && limit > 1:
			// More than one answer may hold.
			limit /= 2
			continue
		case err != nil:
			return err
		}
		for i := range packets {
			b.note(r, &packets[i])
		}
		if len(packets) == 0 || packets[len(packets)-1].Sequence >= head {
			return nil
		}
		if last := packets[len(packets)-1].Sequence; last >= from {
			from = last + 1
		} else {
			return fmt.Errorf("asked from number %d, got up to %d", from, last)
		}
	}
}

func (b *readback) note(r int, p *client.StoredPacket) {
	b.found.Add(1)
	what, repo, index := b.names.recognise(p.RepoID, p.Content, p.Metadata)
	if what != ours || repo != r {
		b.verifier.Corrupt(r)
		return
	}
	b.verifier.Found(r, index, p.Sequence)
}
