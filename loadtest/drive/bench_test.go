package drive

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
	"github.com/waystation/waystation/loadtest/workload"
)

// instant answers at once, from another goroutine, so that what is measured is
// the load test's own share of a packet.
type instant struct {
	answers chan func(client.Receipt, error)
}

func (i instant) PublishAsync(_ context.Context, _ *client.Packet, done func(client.Receipt, error)) error {
	i.answers <- done
	return nil
}

func (i instant) Flush(context.Context) error { return nil }

func BenchmarkPublisher(b *testing.B) {
	loading, end := context.WithCancel(b.Context())
	stream := &limited{Stream: workload.NewSynthetic(1000, 1024, 0, 1), n: b.N, end: end}
	sender := instant{make(chan func(client.Receipt, error), 4096)}
	names := newNames(stream.Repos())
	p := &publisher{
		sender: sender, stream: stream, verifier: verify.New(1000), names: names, clock: clock{begin: time.Now()},
		random: rand.New(rand.NewPCG(1, 1)), ack: &meter{latency: report.NewLatency(), end: time.Hour},
		gap: &report.Gap{}, slots: slots{window: 4096},
	}
	answered := make(chan struct{})
	go func() {
		var n uint64
		for done := range sender.answers {
			n++
			done(client.Receipt{Sequence: n}, nil)
		}
		close(answered)
	}()
	b.ReportAllocs()
	b.ResetTimer()
	if err := p.run(loading); err != nil {
		b.Fatal(err)
	}
	close(sender.answers)
	<-answered
}
