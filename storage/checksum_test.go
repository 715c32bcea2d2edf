package storage_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

func sumOf(t *testing.T, r storage.Reader, skip func([]byte) bool) storage.Sum {
	t.Helper()
	sum, err := storage.Checksum(t.Context(), r, []byte("b"), []byte("c"), skip)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestChecksum compares two stores of different kinds, which came to the same records on
// different ways, and then every single difference.
func TestChecksum(t *testing.T) {
	disk, err := storage.OpenState(smallState(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	memory := storage.NewState(memstore.New(), slog.New(slog.DiscardHandler))
	set := func(s *storage.State, ops ...string) {
		b := s.NewBatch()
		for i := 0; i < len(ops); i += 2 {
			if ops[i+1] == "-" {
				b.Delete([]byte(ops[i]))
			} else {
				b.Set([]byte(ops[i]), []byte(ops[i+1]))
			}
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	set(disk, "a", "x", "b1", "old", "b2", "2", "b9", "9", "bown", "7")
	if err := disk.Flush(); err != nil {
		t.Fatal(err)
	}
	set(disk, "b1", "1", "b9", "-")
	set(memory, "b1", "1", "b2", "2", "c", "y", "bown", "8")
	own := func(key []byte) bool { return string(key) == "bown" }
	want := sumOf(t, disk, own)
	if got := sumOf(t, memory, own); got != want || want.Keys != 2 || want.Bytes != 6 {
		t.Fatalf("equal records sum to %+v and %+v", want, got)
	}
	if all := sumOf(t, memory, nil); all == want {
		t.Fatal("a record more makes no difference")
	}
	for _, change := range [][]string{
		{"b1", "2"},
		{"b1", "-"},
		{"b3", ""},
		{"b1", ""},
		{"b2", "-", "b22", ""},
		{"b1", "-", "b11", ""},
		{"b1", "1b", "b2", "-"},
	} {
		other := storage.NewState(memstore.New(), slog.New(slog.DiscardHandler))
		set(other, "b1", "1", "b2", "2")
		set(other, change...)
		if got := sumOf(t, other, own); got.CRC64 == want.CRC64 {
			t.Errorf("a change %q is not seen", change)
		}
	}
}

func TestChecksumEnds(t *testing.T) {
	s := storage.NewState(memstore.New(), slog.New(slog.DiscardHandler))
	b := s.NewBatch()
	for i := range 64 {
		b.Set(fmt.Appendf(nil, "b%02d", i), make([]byte, 100_000))
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	_, err := storage.Checksum(ctx, s, nil, nil, func([]byte) bool {
		if seen++; seen == 5 {
			cancel()
		}
		return false
	})
	if !errors.Is(err, context.Canceled) || seen > 20 {
		t.Fatalf("after %d of 64 records: %v, want the context's end soon after the fifth", seen, err)
	}
}

// BenchmarkChecksum is `verify` of a partition.
func BenchmarkChecksum(b *testing.B) {
	s := benchState(b)
	const keys = 200_000
	batch := s.NewBatch()
	for i := range keys {
		batch.Set(fmt.Appendf(nil, "b%012d", i), make([]byte, 60))
	}
	if err := errors.Join(batch.Commit(), s.Flush()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(keys * 73)
	for b.Loop() {
		if _, err := storage.Checksum(b.Context(), s, nil, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}
