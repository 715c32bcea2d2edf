package drive

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
	"github.com/waystation/waystation/loadtest/workload"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// fakeAPI answers what the load test calls by itself.
type fakeAPI struct {
	waystationv1.WaystationClient
	settle func(*waystationv1.Settlement) *waystationv1.Error
	tried  []*waystationv1.Settlement
	open   func(ctx context.Context) (*fakeStream, error)
}

func (f *fakeAPI) Settle(_ context.Context, req *waystationv1.SettleRequest, _ ...grpc.CallOption) (*waystationv1.SettleResponse, error) {
	resp := &waystationv1.SettleResponse{}
	for _, s := range req.GetSettlements() {
		f.tried = append(f.tried, s)
		resp.Results = append(resp.Results, &waystationv1.SettlementResult{Error: f.settle(s)})
	}
	return resp, nil
}

// newWorker has two repositories with one packet each, sent and acknowledged as number 1.
func newTestWorker(api *fakeAPI) (w *worker, deliver func(repo int, token uint64, change func(*client.Delivery))) {
	n := newNames([]string{"a", "b"})
	v := verify.New(2)
	w = &worker{
		verifier: v, names: n, clock: clock{begin: time.Now()}, delivery: &meter{latency: report.NewLatency(), end: time.Hour},
		probe: &probe{direct: &direct{apis: []waystationv1.WaystationClient{api}}, group: n.group},
	}
	contents := make([][]byte, 2)
	for repo := range contents {
		v.Send(repo, 0)
		v.Ack(repo, 0, 1, false)
		contents[repo] = make([]byte, 32)
		workload.Mark{Run: n.run, Repo: uint32(repo)}.Stamp(contents[repo])
	}
	return w, func(repo int, token uint64, change func(*client.Delivery)) {
		d := client.Delivery{RepoID: n.repos[repo], Sequence: 1, LeaseToken: token, Content: contents[repo]}
		if change != nil {
			change(&d)
		}
		_ = w.handle(context.Background(), &d)
	}
}

func TestWorkerFeedsTheVerifier(t *testing.T) {
	stale := func(*waystationv1.Settlement) *waystationv1.Error {
		return &waystationv1.Error{Code: client.CodeStaleLease}
	}
	good := verify.Totals{Sent: 2, Acked: 2, Delivered: 2, Settled: 2}
	total := func(change func(*verify.Totals)) verify.Totals {
		t := good
		change(&t)
		return t
	}
	for _, tc := range []struct {
		name   string
		settle func(*waystationv1.Settlement) *waystationv1.Error
		redo   func(w *worker, deliver func(int, uint64, func(*client.Delivery)))
		want   verify.Totals
	}{
		{"good", stale, nil, good},
		{
			"an old token is refused", stale,
			func(_ *worker, deliver func(int, uint64, func(*client.Delivery))) { deliver(0, 9, nil) },
			total(func(t *verify.Totals) { t.Redelivered, t.Duplicated = 1, 1 }),
		},
		{
			"an old token is accepted", func(*waystationv1.Settlement) *waystationv1.Error { return nil },
			func(_ *worker, deliver func(int, uint64, func(*client.Delivery))) { deliver(0, 9, nil) },
			total(func(t *verify.Totals) { t.Redelivered, t.Duplicated, t.StaleAccepted = 1, 1, 1 }),
		},
		{
			"content changed on the way", stale,
			func(_ *worker, deliver func(int, uint64, func(*client.Delivery))) {
				deliver(1, 9, func(d *client.Delivery) { d.Content = make([]byte, 32) })
			},
			total(func(t *verify.Totals) { t.Corrupt = 1 }),
		},
		{
			"somebody else's packet", stale,
			func(w *worker, deliver func(int, uint64, func(*client.Delivery))) {
				deliver(1, 9, func(d *client.Delivery) { d.RepoID = "acme/api" })
				w.settled("acme/api", 1, 9, nil, time.Now())
			},
			good,
		},
		{
			"a refused settlement settles nothing", stale,
			func(w *worker, _ func(int, uint64, func(*client.Delivery))) {
				w.verifier.Send(0, 0)
				w.verifier.Ack(0, 1, 2, false)
				w.settled(w.names.repos[0], 2, 9, errors.New("stale"), time.Now())
			},
			total(func(t *verify.Totals) { t.Sent, t.Acked, t.Lost = 3, 3, 1 }),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := &fakeAPI{settle: tc.settle}
			w, deliver := newTestWorker(api)
			for repo := range 2 {
				deliver(repo, 5, nil)
				w.settled(w.names.repos[repo], 1, 5, nil, w.clock.begin)
			}
			if tc.redo != nil {
				tc.redo(w, deliver)
			}
			if got := w.verifier.Totals(true); got != tc.want {
				t.Errorf("\n got %+v\nwant %+v", got, tc.want)
			}
			for _, s := range api.tried {
				if s.GetLeaseToken() != 5 || s.GetRepoId() != w.names.repos[0] {
					t.Errorf("tried %v, want the old token", s)
				}
			}
		})
	}
}

func TestProbeSeldom(t *testing.T) {
	var p probe
	tried := 0
	for at := time.Duration(0); at < time.Second; at += time.Millisecond {
		if p.due(at) {
			tried++
		}
	}
	if tried != int(time.Second/probeEvery) {
		t.Errorf("%d times in a second", tried)
	}
}
