package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

func (p *pebbleKV) NewBatch(size int) KVBatch {
	if b := p.free.get(); b != nil {
		return b
	}
	return &pebbleBatch{kv: p, b: p.db.NewBatchWithSize(max(size, 64<<10), pebble.WithMaxRetainedSizeBytes(freeBatchBytes))}
}

type pebbleBatch struct {
	kv *pebbleKV
	b  *pebble.Batch
}

func (b *pebbleBatch) Set(keyLen, valueLen int) (key, value []byte) {
	op := b.b.SetDeferred(keyLen, valueLen)
	return op.Key, op.Value // Finish is for indexed batches, and does nothing here
}

// The batch methods of Pebble return an error for indexed batches and for a size over 4 GiB
// only, where they panic as well.

func (b *pebbleBatch) Delete(key []byte) { _ = b.b.Delete(key, nil) }

func (b *pebbleBatch) DeleteRange(lower, upper []byte) { _ = b.b.DeleteRange(lower, upper, nil) }

func (b *pebbleBatch) Len() int { return b.b.Len() }

// Commit looks at the fault before and after: Pebble itself does not learn that the disk is
// dead. A batch that met a fault is not used again.
func (b *pebbleBatch) Commit(sync bool) error {
	p := b.kv
	if err := p.faults.get(); err != nil {
		return err
	}
	if err := p.db.Apply(b.b, pebble.NoSync); err != nil {
		return p.faults.set(fmt.Errorf("commit: %w", err))
	}
	if err := p.faults.get(); err != nil {
		return err
	}
	if !b.b.Empty() {
		p.committed(uint64(b.b.SeqNum()) + uint64(b.b.Count()) - 1)
	}
	b.reuse()
	if sync {
		return p.Flush()
	}
	return nil
}

func (b *pebbleBatch) Discard() { b.reuse() }

func (b *pebbleBatch) reuse() {
	b.b.Reset()
	if !b.kv.free.put(b) {
		_ = b.b.Close() // a batch that is only dropped
	}
}
