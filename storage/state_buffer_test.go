package storage_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// countedKV counts what reaches it.
type countedKV struct {
	storage.KV
	batches, sets, deletes int
}

type countedBatch struct {
	storage.KVBatch
	kv *countedKV
}

func (c *countedKV) NewBatch(size int) storage.KVBatch {
	return &countedBatch{c.KV.NewBatch(size), c}
}

func (b *countedBatch) Set(keyLen, valueLen int) (key, value []byte) {
	b.kv.sets++
	return b.KVBatch.Set(keyLen, valueLen)
}

func (b *countedBatch) Delete(key []byte) {
	b.kv.deletes++
	b.KVBatch.Delete(key)
}

func (b *countedBatch) Commit(sync bool) error {
	b.kv.batches++
	return b.KVBatch.Commit(sync)
}

func countedState(t *testing.T) (*storage.State, *countedKV) {
	t.Helper()
	kv := &countedKV{KV: memstore.New()}
	s := storage.NewState(kv, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = s.Close() })
	return s, kv
}

func commit(t *testing.T, s *storage.State, fill func(b *storage.StateBatch)) {
	t.Helper()
	b := s.NewBatch()
	fill(b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestStateWritesOnce: what is written again and again reaches the store once, and what was new
// and is deleted never does.
func TestStateWritesOnce(t *testing.T) {
	s, kv := countedState(t)
	for i := range 100 {
		run := fmt.Appendf(nil, "gr-run-%d", i)
		commit(t, s, func(b *storage.StateBatch) {
			b.Set([]byte("gr-applied"), fmt.Append(nil, i))
			b.SetNew(run, []byte("reference"))
		})
		commit(t, s, func(b *storage.StateBatch) { b.Delete(run) })
	}
	commit(t, s, func(b *storage.StateBatch) { b.Delete([]byte("gr-unknown")) })
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if kv.sets != 1 || kv.deletes != 1 || kv.batches != 1 {
		t.Fatalf("%d records and %d deletions in %d batches reached the store, want 1, 1, 1", kv.sets, kv.deletes, kv.batches)
	}
	if v, err := s.Get([]byte("gr-applied")); err != nil || string(v) != "99" {
		t.Fatalf("get: %q, %v", v, err)
	}
}

// TestStateBufferBounded: what gathers is bounded, for one family and for many.
func TestStateBufferBounded(t *testing.T) {
	for name, prefix := range map[string]func(i int) []byte{
		"one family":    func(int) []byte { return []byte("gr") },
		"many families": func(i int) []byte { return []byte{byte(i >> 8 & 3), byte(i)} },
	} {
		t.Run(name, func(t *testing.T) {
			s, kv := countedState(t)
			value := make([]byte, 1000)
			const records = 20_000
			for i := range records {
				commit(t, s, func(b *storage.StateBatch) { b.Set(fmt.Appendf(prefix(i), "%d", i), value) })
			}
			if held := (records - kv.sets) * len(value); held > 9<<20 {
				t.Fatalf("%d bytes have not reached the store", held)
			}
		})
	}
}
