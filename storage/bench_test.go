package storage_test

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/waystation/waystation/storage"
)

// The benchmarks run on the disk below TMPDIR, with real syncs.

const packetSize = 1 << 10

func benchLog(b *testing.B) *storage.Log {
	b.Helper()
	c := storage.DefaultLogConfig(b.TempDir() + "/log")
	c.Logger = slog.New(slog.DiscardHandler)
	l, err := storage.OpenLog(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	})
	return l
}

// incompressible data: source code that a client has compressed already.
func noise(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(data[i:], r.Uint64())
	}
	return data
}

// BenchmarkLogAppend writes passes of the multi-raft loop: each one synced batch of 256 packets
// of 1 KiB, as entries of some groups among 16, and truncates behind itself as the engine does.
func BenchmarkLogAppend(b *testing.B) {
	for _, entrySize := range []int{64 << 10, 128 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("entry=%dKiB", entrySize>>10), func(b *testing.B) {
			l := benchLog(b)
			data := noise(entrySize)
			var last [16]uint64
			next := 0
			const keep = 64 // entries
			b.SetBytes(256 * packetSize)
			b.ReportAllocs()
			for b.Loop() {
				batch := l.NewBatch()
				for left := 256 * packetSize; left > 0; left -= entrySize {
					g := storage.GroupID(next % 16)
					next++
					last[g]++
					batch.Append(g, []storage.Entry{{Index: last[g], Term: 1, Data: data}})
					batch.SetHardState(g, storage.HardState{Term: 1, Vote: 1, Commit: last[g] - 1})
					if last[g]%keep == 0 && last[g] > keep {
						batch.Truncate(g, storage.Position{Index: last[g] - keep, Term: 1})
					}
				}
				if err := batch.Commit(true); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/packet")
			b.ReportMetric(float64(256*b.N)/b.Elapsed().Seconds(), "packets/s")
			b.ReportMetric(float64(l.DiskBytes())/(1<<20), "disk-MiB") // of 64 MiB to 256 MiB that live
		})
	}
}

// BenchmarkLogReadAt reads single packets out of entries of 256 KiB, at random.
func BenchmarkLogReadAt(b *testing.B) {
	l := benchLog(b)
	data := noise(256 << 10)
	const entries = 1024 // 256 MiB: more than the block cache holds
	for index := uint64(1); index <= entries; index++ {
		batch := l.NewBatch()
		batch.Append(storage.GroupID(index%16), []storage.Entry{{Index: (index-1)/16 + 1, Term: 1, Data: data}})
		if err := batch.Commit(false); err != nil {
			b.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	dst := make([]byte, 0, packetSize)
	b.SetBytes(packetSize)
	b.ReportAllocs()
	for b.Loop() {
		off := r.IntN(len(data) - packetSize)
		if _, err := l.ReadAt(storage.GroupID(r.IntN(16)), 1+r.Uint64N(entries/16), off, packetSize, dst); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLogEntries reads whole entries, as a restart and a slow follower do.
func BenchmarkLogEntries(b *testing.B) {
	l := benchLog(b)
	data := noise(256 << 10)
	for index := uint64(1); index <= 64; index++ {
		batch := l.NewBatch()
		batch.Append(1, []storage.Entry{{Index: index, Term: 1, Data: data}})
		if err := batch.Commit(false); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(4 * int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Entries(1, 30, 34, 1<<30); err != nil {
			b.Fatal(err)
		}
	}
}

func benchState(b *testing.B) *storage.State {
	b.Helper()
	c := storage.DefaultStateConfig(b.TempDir() + "/state")
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := storage.OpenState(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	})
	return s
}

// BenchmarkStateBatch applies entries: each one batch with a record for each of 256 packets of
// 1,000 repositories, the repositories' heads, and the applied index.
func BenchmarkStateBatch(b *testing.B) {
	s := benchState(b)
	var index uint64
	b.ReportAllocs()
	for b.Loop() {
		batch := s.NewBatch()
		for i := range uint64(256) {
			repo := (index*256 + i*37) % 1000
			k, v := batch.SetDeferred(21, 40)
			k[0] = 'p'
			binary.BigEndian.PutUint64(k[1:], repo)
			binary.BigEndian.PutUint64(k[9:], index*256+i)
			binary.BigEndian.PutUint64(v, index)
			k, v = batch.SetDeferred(9, 60)
			k[0] = 'h'
			binary.BigEndian.PutUint64(k[1:], repo)
			binary.BigEndian.PutUint64(v, index)
		}
		k, v := batch.SetDeferred(1, 8)
		k[0] = 'a'
		binary.BigEndian.PutUint64(v, index)
		if err := batch.Commit(); err != nil {
			b.Fatal(err)
		}
		index++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/packet")
}

// BenchmarkStateGet reads small records that were flushed, and keys that are not there.
func BenchmarkStateGet(b *testing.B) {
	s := benchState(b)
	const keys = 1_000_000
	key := func(i uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'h'}, i*2) }
	for i := uint64(0); i < keys; {
		batch := s.NewBatch()
		for range 10_000 {
			batch.Set(key(i), make([]byte, 60))
			i++
		}
		if err := batch.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	dst := make([]byte, 0, 64)
	b.Run("present", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.AppendGet(dst, key(r.Uint64N(keys))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("absent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k := key(r.Uint64N(keys))
			k[8]++
			if _, err := s.AppendGet(dst, k); err != storage.ErrNotFound { //nolint:errorlint // never wrapped
				b.Fatal(err)
			}
		}
	})
}
