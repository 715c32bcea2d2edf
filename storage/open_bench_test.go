package storage_test

import (
	"log/slog"
	"testing"

	"github.com/waystation/waystation/storage"
)

// BenchmarkLogOpen opens a log of 256 MiB: entries of one packet, each its own commit, and entries of
// many.
func BenchmarkLogOpen(b *testing.B) {
	for name, size := range map[string]int{"packets": packetSize, "entries": 256 << 10} {
		b.Run(name, func(b *testing.B) {
			c := storage.DefaultLogConfig(b.TempDir())
			c.Logger = slog.New(slog.DiscardHandler)
			l, err := storage.OpenLog(c)
			if err != nil {
				b.Fatal(err)
			}
			data := noise(size)
			for index := uint64(1); index <= uint64(256<<20/size); index++ {
				batch := l.NewBatch()
				batch.Append(storage.GroupID(index%16), []storage.Entry{{Index: (index-1)/16 + 1, Term: 1, Data: data}})
				if err := batch.Commit(false); err != nil {
					b.Fatal(err)
				}
			}
			for {
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				if !b.Loop() {
					break
				}
				if l, err = storage.OpenLog(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
