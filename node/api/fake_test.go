package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRelay numbers packets of a repository as they come. answer, when set,
// decides instead; hold keeps what is offered until release is called.
type fakeRelay struct {
	limits wire.Limits
	refuse *actors.Refusal
	hold   bool

	mu     sync.Mutex
	heads  map[string]repository.Seq
	taken  []wire.PacketFields
	held   []func()
	freed  int
	offers int
}

func (r *fakeRelay) Parked(repo string) bool { return repo == "parked" }

func (r *fakeRelay) Offer(f *actors.Frame, sink actors.Sink) {
	r.mu.Lock()
	r.offers++
	if r.hold {
		r.held = append(r.held, func() { r.give(f, sink) })
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	r.give(f, sink)
}

func (r *fakeRelay) give(f *actors.Frame, sink actors.Sink) {
	results := make([]actors.PublishResult, len(f.Packets))
	r.mu.Lock()
	for i := range f.Packets {
		p := &f.Packets[i]
		results[i] = actors.PublishResult{Index: f.First + uint64(i), Repo: p.Repo, ID: p.ID}
		if err := p.Validate(&r.limits); err != nil {
			field := err.(*wire.FieldError) //nolint:errorlint // what Validate returns
			results[i].Refusal = &actors.Refusal{Code: actors.CodeInvalidArgument, Field: field.Field, Message: field.Message}
			continue
		}
		if results[i].Refusal = r.refuse; r.refuse != nil {
			continue
		}
		if r.heads == nil {
			r.heads = make(map[string]repository.Seq)
		}
		r.heads[string(p.Repo)]++
		results[i].Seq = r.heads[string(p.Repo)]
		r.taken = append(r.taken, fields(p))
	}
	r.mu.Unlock()
	sink.Results(results)
	if f.Release != nil {
		f.Release()
	}
	r.mu.Lock()
	r.freed++
	r.mu.Unlock()
}

// release answers what was held so far, and goes on at once from now on.
func (r *fakeRelay) release() {
	r.mu.Lock()
	held := r.held
	r.held, r.hold = nil, false
	r.mu.Unlock()
	for _, f := range held {
		f()
	}
}

func (r *fakeRelay) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.offers
}

// fields copies what a packet's view says.
func fields(p *wire.Packet) wire.PacketFields {
	f := wire.PacketFields{
		RepoID: string(p.Repo), Content: append([]byte{}, p.Content...), PacketID: string(p.ID), Producer: string(p.Producer),
		Epoch: p.Epoch, Sequence: p.Sequence, Priority: p.Priority, Encoding: p.Encoding, Kind: string(p.Kind),
		TimeToLive: time.Duration(p.TTLMs) * time.Millisecond, DeliverAfter: time.Duration(p.DeliverAfterMs) * time.Millisecond,
		Traceparent: string(p.Traceparent), HasCRC: p.HasCRC,
	}
	if p.CreatedAtMs != 0 {
		f.CreatedAt = time.UnixMilli(p.CreatedAtMs).UTC()
	}
	p.EachMetadata(func(k, v []byte) bool {
		if f.Metadata == nil {
			f.Metadata = make(map[string]string)
		}
		f.Metadata[string(k)] = string(v)
		return true
	})
	return f
}

// fakeDelivery has one packet for whoever asks.
type fakeDelivery struct {
	orders     []actors.DeadOrder
	err        error
	session    *fakeSession
	lastPull   actors.PullConfig
	lastSettle []actors.Settlement
	lastResult actors.ResultQuery
	result     *actors.PacketResult
	pullWaits  bool
}

const accepted = 1_790_000_000_000

func aPacket() []byte {
	return wire.AppendPacket(nil, &wire.PacketFields{
		RepoID: "acme/api", Content: []byte("hi"), PacketID: "p1", Metadata: map[string]string{"branch": "main"},
		Priority: 1, Encoding: 1, Kind: "diff", TimeToLive: 90 * time.Second, DeliverAfter: 1500 * time.Millisecond,
		CreatedAt: time.UnixMilli(accepted - 1000), Producer: "pr", Epoch: 2, Sequence: 3,
	})
}

func aDelivery() actors.Delivery {
	return actors.Delivery{
		Repo: "acme/api", Seq: 7, Token: 11, Attempt: 2, LeaseMs: 30_000, ExpiresMs: accepted + 30_000, AcceptedMs: accepted,
		Redelivered: true, Packet: aPacket(),
	}
}

func (d *fakeDelivery) Open(context.Context, actors.SessionConfig) (Session, error) {
	if d.err != nil {
		return nil, d.err
	}
	return d.session, nil
}

func (d *fakeDelivery) Pull(ctx context.Context, cfg actors.PullConfig) ([]actors.Delivery, error) {
	d.lastPull = cfg
	if d.pullWaits {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []actors.Delivery{aDelivery()}, d.err
}

func (d *fakeDelivery) Settle(_ context.Context, _ string, list []actors.Settlement) ([]actors.SettlementOutcome, error) {
	d.lastSettle = list
	return settleAll(list), d.err
}

// settleAll takes the token 11 for the right one.
func settleAll(list []actors.Settlement) []actors.SettlementOutcome {
	out := make([]actors.SettlementOutcome, len(list))
	for i, s := range list {
		out[i] = actors.SettlementOutcome{Index: i, Repo: s.Repo, Seq: s.Seq}
		if s.Token != 11 {
			out[i].Refusal = stale
		}
	}
	return out
}

var stale = &actors.Refusal{Code: actors.CodeStaleLease, Field: "lease_token", Message: "the lease is over"}

func (d *fakeDelivery) Renew(_ context.Context, _ string, list []actors.LeaseRef) ([]actors.RenewOutcome, error) {
	return renewAll(list), d.err
}

func renewAll(list []actors.LeaseRef) []actors.RenewOutcome {
	out := make([]actors.RenewOutcome, len(list))
	for i, l := range list {
		out[i] = actors.RenewOutcome{Index: i, Repo: l.Repo, Token: l.Token, ExpiresMs: accepted + 60_000}
		if l.Token != 11 {
			out[i].ExpiresMs, out[i].Refusal = 0, stale
		}
	}
	return out
}

func (d *fakeDelivery) Lookup(_ context.Context, repo string, seq repository.Seq, _ string) (*actors.PacketInfo, error) {
	if d.err != nil {
		return nil, d.err
	}
	info := &actors.PacketInfo{Seq: seq, Groups: []actors.PacketState{{Group: "ci", State: "dead", Attempts: 5, Reason: "attempts", LastError: "exit 1"}}}
	if repo != "gone" {
		info.Stored = &actors.StoredPacket{Seq: seq, AcceptedMs: accepted, Packet: aPacket()}
	}
	return info, nil
}

func (d *fakeDelivery) ReadPackets(_ context.Context, _ string, from repository.Seq, limit uint32) ([]actors.StoredPacket, repository.Seq, error) {
	if limit > 1000 {
		return nil, 0, &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "limit", Message: "must be at most 1,000"}
	}
	return []actors.StoredPacket{{Seq: max(from, 1), AcceptedMs: accepted, Packet: aPacket()}}, 9, d.err
}

// Result knows what became of a few packets.
func (d *fakeDelivery) Result(ctx context.Context, q actors.ResultQuery) (*actors.PacketResult, error) {
	d.lastResult = q
	if d.pullWaits {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if d.result == nil {
		return nil, &actors.Refusal{Code: actors.CodeNotFound, Field: "sequence", Message: "no result"}
	}
	x := *d.result
	if x.Seq == 0 {
		x.Seq = q.Seq
	}
	return &x, d.err
}

func (d *fakeDelivery) Repository(_ context.Context, repo string) (*actors.RepositoryInfo, error) {
	if repo == "absent" {
		return nil, &actors.Refusal{Code: actors.CodeNotFound, Field: "repo_id", Message: "nothing was ever accepted"}
	}
	return &actors.RepositoryInfo{
		RepoInfo: repository.RepoInfo{Head: 9, Backlog: 4, BacklogBytes: 400}, Partition: 3,
		Groups: []actors.GroupCursor{
			{Group: "ci", Cursors: [repository.Ranks]repository.Seq{1, 2, 3}, LeasedUntilMs: accepted + 30_000, Attempts: 2, Token: 11, Waiting: 6},
			{Group: "idle"},
		},
	}, d.err
}

func (d *fakeDelivery) DeadLetters(_ context.Context, q actors.DeadQuery) ([]actors.DeadLetter, string, error) {
	return []actors.DeadLetter{{PacketID: "p1", DeadLetter: repository.DeadLetter{
		Repo: "acme/api", Seq: 7, Reason: repository.ReasonAttempts, Attempts: 5, AtMs: accepted, RedriveOf: 3,
		Failures: []repository.Failure{{AtMs: accepted - 1000, Silent: true, Error: "lease expired"}, {AtMs: accepted, Error: "exit 1"}},
	}}}, "next:" + q.Cursor + q.Repo + q.Reason, d.err
}

// EndDead does to five dead letters what is ordered, at most two of them at a time.
func (d *fakeDelivery) EndDead(_ context.Context, o actors.DeadOrder) (done actors.DeadDone, err error) {
	d.orders = append(d.orders, o)
	if d.err != nil {
		return done, d.err
	}
	at, _ := strconv.Atoi(o.Cursor)
	done.Looked = min(5-at, int(o.Limit), 2)
	done.Count = done.Looked
	if at += done.Looked; at < 5 {
		done.Next = strconv.Itoa(at)
	}
	return done, nil
}

// fakeSession hands out what is put into it.
type fakeSession struct {
	ready   chan struct{}
	done    chan struct{}
	pending atomic.Bool

	mu       sync.Mutex
	waiting  []actors.Delivery
	credit   uint32
	held     int
	drained  bool
	closed   bool
	settled  int
	onSettle func([]actors.Settlement, func([]actors.SettlementOutcome))
}

func newFakeSession() *fakeSession {
	return &fakeSession{ready: make(chan struct{}, 1), done: make(chan struct{})}
}

func (s *fakeSession) put(list ...actors.Delivery) {
	s.mu.Lock()
	s.waiting = append(s.waiting, list...)
	s.mu.Unlock()
	signal(s.ready)
}

func (s *fakeSession) Ready() <-chan struct{} { return s.ready }
func (s *fakeSession) Done() <-chan struct{}  { return s.done }
func (s *fakeSession) Err() error {
	return &actors.Refusal{Code: actors.CodeUnavailable, Field: "worker", Message: "taken over"}
}

func (s *fakeSession) Take(limit int, dst []actors.Delivery) []actors.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(limit, len(s.waiting))
	dst = append(dst, s.waiting[:n]...)
	s.waiting = s.waiting[n:]
	s.held += n
	return dst
}

func (s *fakeSession) Pending() bool { return s.pending.Load() }

func (s *fakeSession) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

func (s *fakeSession) SetCredit(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credit = n
}

func (s *fakeSession) Settle(list []actors.Settlement, done func([]actors.SettlementOutcome)) {
	s.mu.Lock()
	s.settled += len(list)
	s.held -= len(list)
	f := s.onSettle
	s.mu.Unlock()
	if f != nil {
		f(list, done)
		return
	}
	done(settleAll(list))
}

func (s *fakeSession) Renew(list []actors.LeaseRef, done func([]actors.RenewOutcome)) {
	done(renewAll(list))
}

func (s *fakeSession) Release() {}

func (s *fakeSession) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained = true
}

func (s *fakeSession) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *fakeSession) is(f func(*fakeSession) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f(s)
}

type fakeCluster struct{ err error }

func (c fakeCluster) OpenProducer(_ context.Context, producer string) (uint64, error) {
	return uint64(len(producer)), c.err
}

func (fakeCluster) Drain(context.Context, string, bool) error { return nil }

func (fakeCluster) Remove(context.Context, string) error { return nil }

// CreateGroup has what is given and no defaults.
func (fakeCluster) CreateGroup(_ context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error) {
	if s.GetOrderPolicy() == "sideways" {
		return nil, &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "order_policy", Message: "must be skip, block or park"}
	}
	return &waystationv1.Group{Name: name, Version: 1, Settings: s}, nil
}

func (fakeCluster) UpdateGroup(_ context.Context, name string, s *waystationv1.GroupSettings) (*waystationv1.Group, error) {
	return &waystationv1.Group{Name: name, Version: 2, Settings: s}, nil
}

func (fakeCluster) DeleteGroup(_ context.Context, name string) error {
	if name != "ci" {
		return &actors.Refusal{Code: actors.CodeNotFound, Field: "group", Message: "there is no such group"}
	}
	return nil
}

func (fakeCluster) Groups() ([]*waystationv1.Group, error) {
	return []*waystationv1.Group{{Name: "ci", Version: 3, Settings: &waystationv1.GroupSettings{OrderPolicy: new("skip"), MaxAttempts: new(uint32(5))}}}, nil
}

func (fakeCluster) Verify(context.Context, time.Duration) (*waystationv1.VerifyClusterResponse, error) {
	return &waystationv1.VerifyClusterResponse{}, nil
}

func (fakeCluster) Export(context.Context, uint32, func(*waystationv1.ExportGroupResponse) error) error {
	return nil
}

func (fakeCluster) Describe(context.Context) *waystationv1.DescribeClusterResponse {
	return &waystationv1.DescribeClusterResponse{
		ClusterId: "c1", Name: "waystation",
		Nodes: []*waystationv1.Node{{
			Id: "n1", Name: "vm", State: "up", Version: "1", Leaders: 1, Replicas: 1,
			Addresses: &waystationv1.Addresses{Grpc: "127.0.0.1:7400", Http: "127.0.0.1:7401"},
		}},
		Partitions: []*waystationv1.Partition{{Id: 0, Leader: "n1", Voters: []string{"n1"}, Applied: 5, DurableCopies: 1}},
	}
}

// fixture is the API over fakes.
type fixture struct {
	relay    *fakeRelay
	delivery *fakeDelivery
	health   *Health
	quorum   error
	calls    *Calls
	http     *HTTP
	server   *httptest.Server
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{relay: &fakeRelay{limits: wire.DefaultLimits()}, delivery: &fakeDelivery{session: newFakeSession()}}
	f.health = NewHealth(func() error { return f.quorum })
	f.health.Ready()
	f.calls = NewCalls(f.relay, f.delivery, fakeCluster{}, f.health, wire.DefaultLimits())
	f.http = NewHTTP(f.calls, HTTPConfig{
		Listen: "127.0.0.1:0", Health: f.health, Logger: slog.New(slog.DiscardHandler), BodyBytes: 32 << 20,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "metrics") }),
	})
	f.server = httptest.NewServer(f.http)
	t.Cleanup(f.server.Close)
	return f
}

// do makes a request and returns its status, headers and body. path goes out as
// it stands.
func (f *fixture) do(t testing.TB, method, path, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, f.server.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// await waits for a condition.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
