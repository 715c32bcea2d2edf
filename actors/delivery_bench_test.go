package actors

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/storage"
)

// BenchmarkDeliver is the way from a backlog to durable settlements with
// everything but the network, raft and the log: 8 sessions with a credit of 256,
// 256-byte packets. An operation is one packet settled.
func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct{ repos, each int }{{50_000, 1}, {1000, 32}} {
		b.Run(fmt.Sprintf("repositories=%d/backlog=%d", c.repos, c.each), func(b *testing.B) { benchmarkDeliver(b, c.repos, c.each) })
	}
}

// benchmarkDeliver works off rounds of a backlog of each packets in repos
// repositories; only the working off is timed.
func benchmarkDeliver(b *testing.B, repos, each int) {
	const sessions = 8
	cfg := storage.DefaultStateConfig(b.TempDir())
	cfg.Logger = slog.New(slog.DiscardHandler)
	state, err := storage.OpenState(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = state.Close() })
	d := deskOver(b, state, func(s *deskSettings) { s.relay.Partitions = 16 })
	d.group("g", nil)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		n := min(each*repos, b.N-done)
		d.backlog(n, repos)
		done += n
		b.StartTimer()
		var settled atomic.Int64
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range sessions {
			w := d.open(SessionConfig{Credit: 256})
			wg.Go(func() {
				defer w.Close()
				w.grind(b, stop, func(k int) {
					if settled.Add(int64(k)) == int64(n) {
						close(stop)
					}
				})
			})
		}
		wg.Wait()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "settled/s")
	b.ReportMetric(float64(d.proposer.count())/float64(b.N), "entries/op")
}

// backlog publishes n packets, one repository after the other.
func (d *desk) backlog(n, repos int) {
	content := make([]byte, 256)
	for at := 0; at < n; {
		var raws [][]byte
		for ; len(raws) < 512 && at < n; at++ {
			raws = append(raws, packet(wire.PacketFields{RepoID: fmt.Sprintf("org/repository-%d", at%repos), Content: content}))
		}
		for _, a := range d.publish(raws...) {
			if a.refusal != nil {
				d.t.Fatalf("publish: %v", a.refusal)
			}
		}
	}
}

// grind settles what it gets, until told to stop.
func (w *worker) grind(b *testing.B, stop chan struct{}, settled func(n int)) {
	var list []Delivery
	var out []Settlement
	answer := func(answers []SettlementOutcome) {
		for i := range answers {
			if r := answers[i].Refusal; r != nil {
				b.Errorf("settle %s %d: %v", answers[i].Repo, answers[i].Seq, r)
			}
		}
		settled(len(answers))
	}
	for {
		list, out = w.Take(256, list[:0]), out[:0]
		if len(list) == 0 {
			select {
			case <-w.Ready():
				continue
			case <-stop:
				return
			}
		}
		for i := range list {
			out = append(out, done(&list[i]))
		}
		w.Settle(out, answer)
	}
}

// count is the number of entries that were proposed.
func (f *fakeProposer) count() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proposals
}
