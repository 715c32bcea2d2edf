package drive

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
	"github.com/waystation/waystation/loadtest/workload"
)

// limited ends the load after n packets, so that a history is the same each time.
type limited struct {
	workload.Stream
	n   int
	end context.CancelFunc
}

func (l *limited) Next(buf []byte) (workload.Item, error) {
	if l.n--; l.n == 0 {
		l.end()
	}
	return l.Stream.Next(buf)
}

type setting struct {
	packets, size, window int
	resend                float64
	rate                  float64
	onPublish             func(int, *outcome)
	stall                 func(int)
	tamper                func(*fakeRelay)
}

type trace struct {
	totals    verify.Totals
	publisher *publisher
	relay     *fakeRelay
	resends   *resendQueue
	took      time.Duration
}

// publish sends packets to a fake relay and reads them back.
func publish(t *testing.T, s setting) (h trace) {
	t.Helper()
	loading, end := context.WithCancel(t.Context())
	defer end()
	stream := &limited{Stream: workload.NewSynthetic(5, s.size, 0, 1), n: s.packets, end: end}
	f := newFakeRelay(t, s.onPublish)
	f.stall = s.stall
	names := newNames(stream.Repos())
	verifier := verify.New(len(names.repos))
	resends := newResendQueue(s.window)
	b := &byID{resendQueue: resends, sender: f}
	p := &publisher{
		sender: f, stream: stream, verifier: verifier, names: names, clock: clock{begin: time.Now()},
		rate: s.rate, withID: true, before: s.resend / 2, after: s.resend / 2, resends: b, random: rand.New(rand.NewPCG(1, 1)),
		ack: &meter{latency: report.NewLatency(), end: time.Hour}, gap: &report.Gap{}, slots: slots{window: s.window},
	}
	resending, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.run(resending) }()
	begin := time.Now()
	if err := p.run(loading); err != nil {
		t.Fatal(err)
	}
	h.took = time.Since(begin)
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	resends.settle(t.Context())
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if s.tamper != nil {
		s.tamper(f)
	}
	r := &readback{reader: f, verifier: verifier, names: names}
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.totals, h.publisher, h.relay, h.resends = verifier.Totals(false), p, f, resends
	return h
}

func TestPublishAndReadBack(t *testing.T) {
	anyRepo := func(f *fakeRelay) (name string) {
		for repo, packets := range f.stored {
			if len(packets) > 2 && (name == "" || repo < name) {
				name = repo
			}
		}
		return name
	}
	for _, tc := range []struct {
		name    string
		setting setting
		want    verify.Totals
	}{
		{"good, the mark in the content", setting{size: 64}, verify.Totals{Sent: 100, Acked: 100}},
		{"good, the mark in the metadata", setting{size: 3}, verify.Totals{Sent: 100, Acked: 100}},
		{"refused for good", setting{size: 64, onPublish: func(n int, o *outcome) {
			if n == 7 {
				o.err = &client.Error{Code: client.CodeInvalidArgument}
			}
		}}, verify.Totals{Sent: 100, Acked: 99, Rejected: 1}},
		{"outcome unknown", setting{size: 64, onPublish: func(n int, o *outcome) {
			switch n {
			case 7:
				o.err = &client.Error{Code: client.CodeUnknown}
			case 8:
				o.err = errors.New("closed")
			}
		}}, verify.Totals{Sent: 100, Acked: 98, Unknown: 2}},
		{"acknowledged and gone", setting{size: 64, tamper: func(f *fakeRelay) {
			repo := anyRepo(f)
			f.stored[repo] = f.stored[repo][1:]
		}}, verify.Totals{Sent: 100, Acked: 100, Lost: 1}},
		{"stored twice under two numbers", setting{size: 64, tamper: func(f *fakeRelay) {
			repo := anyRepo(f)
			again := f.stored[repo][0]
			again.Sequence = uint64(len(f.stored[repo])) + 1
			f.stored[repo] = append(f.stored[repo], again)
		}}, verify.Totals{Sent: 100, Acked: 100, Duplicated: 1}},
		{"content changed", setting{size: 64, tamper: func(f *fakeRelay) {
			f.stored[anyRepo(f)][1].Content[40] ^= 1
		}}, verify.Totals{Sent: 100, Acked: 100, Lost: 1, Corrupt: 1}},
		{"metadata changed", setting{size: 3, tamper: func(f *fakeRelay) {
			f.stored[anyRepo(f)][1].Metadata[workload.MarkKey] = "1.2.3.4"
		}}, verify.Totals{Sent: 100, Acked: 100, Lost: 1, Corrupt: 1}},
		{"in another repository", setting{size: 64, tamper: func(f *fakeRelay) {
			repo := anyRepo(f)
			for other := range f.stored {
				if other != repo {
					f.stored[other][0].Content, f.stored[repo][0].Content = f.stored[repo][0].Content, f.stored[other][0].Content
					break
				}
			}
		}}, verify.Totals{Sent: 100, Acked: 100, Lost: 2, Corrupt: 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.setting.packets, tc.setting.window = 100, 8
			h := publish(t, tc.setting)
			if h.totals != tc.want {
				t.Errorf("\n got %+v\nwant %+v", h.totals, tc.want)
			}
			if h.relay.highest > 8 {
				t.Errorf("%d packets in flight, the window is 8", h.relay.highest)
			}
		})
	}
}

func TestResends(t *testing.T) {
	h := publish(t, setting{packets: 1000, size: 64, window: 16, resend: 1})
	want := verify.Totals{Sent: 1000, Acked: 1000, Deduplicated: 1000}
	if h.totals != want || h.relay.n != 2000 {
		t.Errorf("%d publishes\n got %+v\nwant %+v", h.relay.n, h.totals, want)
	}
	h = publish(t, setting{packets: 1000, size: 64, window: 16, resend: 0.1})
	if d := h.totals.Deduplicated; d < 60 || d > 140 || int(d) != h.relay.n-1000 {
		t.Errorf("%d deduplicated of %d publishes", d, h.relay.n)
	}
}

func TestResendsUnrecognised(t *testing.T) {
	h := publish(t, setting{packets: 50, size: 64, window: 4, resend: 1, onPublish: func(_ int, o *outcome) {
		o.receipt.Duplicate = false
	}})
	if h.totals.Unmarked != 50 {
		t.Errorf("got %+v", h.totals)
	}
}

func TestResendsRefused(t *testing.T) {
	h := publish(t, setting{packets: 50, size: 64, window: 4, resend: 1, onPublish: func(_ int, o *outcome) {
		if o.receipt.Duplicate {
			o.err = &client.Error{Code: client.CodeFenced}
		}
	}})
	if h.totals.Acked != 50 || h.totals.Unknown != 0 || h.resends.refused.Load() != 50 {
		t.Errorf("%d refused, %+v", h.resends.refused.Load(), h.totals)
	}
}

// With a rate, latency counts from the scheduled time: a relay that answers
// nothing for a while must show in it.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := publish(t, setting{packets: 101, size: 64, window: 4, rate: 100})
		if h.took < time.Second || h.took > 1100*time.Millisecond {
			t.Errorf("101 packets at 100/s took %v", h.took)
		}
		if q := h.publisher.ack.latency.Quantiles(); q.Max > 20 {
			t.Errorf("idle relay: %v", q)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := publish(t, setting{packets: 101, size: 64, window: 4, rate: 100, stall: func(n int) {
			if n == 50 {
				<-time.After(500 * time.Millisecond)
			}
		}})
		if q := h.publisher.ack.latency.Quantiles(); q.Max < 400 || q.P90 < 200 || q.P50 > 20 {
			t.Errorf("relay away for half a second: %v", q)
		}
	})
}

func TestStreamError(t *testing.T) {
	broken := errors.New("disk gone")
	stream := failingStream{workload.NewSynthetic(1, 64, 0, 1), broken}
	names := newNames(stream.Repos())
	p := &publisher{
		sender: newFakeRelay(t, nil), stream: stream, verifier: verify.New(1), names: names,
		clock: clock{begin: time.Now()}, random: rand.New(rand.NewPCG(1, 1)),
		ack: &meter{latency: report.NewLatency()}, gap: &report.Gap{}, slots: slots{window: 2},
	}
	if err := p.run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failingStream struct {
	workload.Stream
	err error
}

func (f failingStream) Next([]byte) (workload.Item, error) { return workload.Item{}, f.err }

func TestPlan(t *testing.T) {
	for _, tc := range []struct {
		name          string
		safe          func(n int) bool
		before, after int // of 1,000 packets, about
	}{
		{"always safe", func(int) bool { return true }, 100, 100},
		{"now and then: others are resent in their place", func(n int) bool { return n%5 == 0 }, 100, 100},
		{"never: resent later", func(int) bool { return false }, 0, 200},
	} {
		p := &publisher{before: 0.1, after: 0.1}
		random := rand.New(rand.NewPCG(1, 1))
		var before, after int
		for n := range 1000 {
			var s slot
			p.plan(&s, random.Float64(), tc.safe(n))
			switch s.resend {
			case resendBefore:
				before++
			case resendAfter:
				after++
			}
			if holders := s.holders.Load(); (holders == 2) != (s.resend == resendBefore) {
				t.Fatalf("%s: %d holders", tc.name, holders)
			}
		}
		if abs(before-tc.before) > 30 || abs(after-tc.after) > 60 {
			t.Errorf("%s: %d before and %d after, want about %d and %d", tc.name, before, after, tc.before, tc.after)
		}
	}
}

func abs(n int) int { return max(n, -n) }
