package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/actors"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// TestCallOverHTTP holds the answers of a call and of a result, by what became of it.
func TestCallOverHTTP(t *testing.T) {
	for _, x := range []struct {
		name   string
		result *actors.PacketResult
		status int
		want   map[string]any
	}{
		{
			"done", &actors.PacketResult{State: actors.ResultDone, Kept: true, Result: []byte("hi"), ExpiresMs: accepted}, 200,
			map[string]any{"state": "done", "pending": false, "result": "aGk=", "expires_at": "2026-09-21T14:13:20Z"},
		},
		{"done and empty", &actors.PacketResult{State: actors.ResultDone, Kept: true}, 200, map[string]any{"state": "done", "result": ""}},
		{"done without one", &actors.PacketResult{State: actors.ResultDone}, 200, map[string]any{"state": "done", "result": nil}},
		{"pending", &actors.PacketResult{State: actors.ResultPending}, 202, map[string]any{"state": "pending", "pending": true}},
		{
			"dead", &actors.PacketResult{State: actors.ResultDead, Reason: "rejected", Attempts: 2, LastError: "no"}, 200,
			map[string]any{"state": "dead", "reason": "rejected", "attempts": 2.0, "last_error": "no"},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			f := newFixture(t)
			f.delivery.result = x.result
			check := func(status int, body string, more map[string]any) {
				t.Helper()
				var got map[string]any
				if err := json.Unmarshal([]byte(body), &got); err != nil || status != x.status {
					t.Fatalf("%d %s: %v", status, body, err)
				}
				for _, want := range []map[string]any{x.want, more} {
					for k, v := range want {
						if got[k] != v {
							t.Errorf("%s is %v, want %v: %s", k, got[k], v, body)
						}
					}
				}
			}
			status, _, body := f.do(t, "POST", "/v1/repos/acme/api/call?group=ci&wait_ms=700", "content", "Waystation-Packet-Id", "p1", "Waystation-Kind", "review")
			check(status, body, map[string]any{"repo_id": "acme/api", "sequence": "1", "packet_id": "p1", "duplicate": false, "group": "ci"})
			if q := f.delivery.lastResult; q.Repo != "acme/api" || q.Group != "ci" || q.Seq != 1 || !q.Empty || q.WaitMs == 0 || q.WaitMs > 700 {
				t.Errorf("asked for %+v", q)
			}
			if p := f.relay.taken[0]; p.PacketID != "p1" || p.Kind != "review" || string(p.Content) != "content" {
				t.Errorf("published %+v", p)
			}
			status, _, body = f.do(t, "GET", "/v1/repos/acme/api/results/1?group=ci", "")
			check(status, body, map[string]any{"sequence": "1", "group": "ci"})
			if q := f.delivery.lastResult; q.Seq != 1 || q.ID != "" || q.Empty || q.WaitMs != 0 {
				t.Errorf("asked for %+v", q)
			}
		})
	}
}

// A packet without an id gets one, and the paths and parameters say what they mean.
func TestCallNamesItsPacket(t *testing.T) {
	f := newFixture(t)
	f.delivery.result = &actors.PacketResult{State: actors.ResultDone, Kept: true, Result: []byte("x")}
	for range 2 {
		if status, _, body := f.do(t, "POST", "/v1/repos/call/call?group=ci", `{"content":"aGk="}`, "Content-Type", "application/json"); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	if a, b := f.relay.taken[0], f.relay.taken[1]; len(a.PacketID) < 16 || a.PacketID == b.PacketID || a.RepoID != "call" {
		t.Errorf("published %+v and %+v", a, b)
	}
	for path, want := range map[string]actors.ResultQuery{
		"/v1/repos/acme/api/results/push-1?group=ci":          {Repo: "acme/api", Group: "ci", ID: "push-1"},
		"/v1/repos/acme/api/results/a%2Fb?group=ci&wait_ms=5": {Repo: "acme/api", Group: "ci", ID: "a/b", WaitMs: 5},
		"/v1/repos/acme/results/results/77?group=ci":          {Repo: "acme/results", Group: "ci", Seq: 77},
		"/v1/repos/acme/api/results/77?group=ci&by=id":        {Repo: "acme/api", Group: "ci", ID: "77"},
		"/v1/repos/acme/api/results/77?group=ci&by=sequence":  {Repo: "acme/api", Group: "ci", Seq: 77},
	} {
		if status, _, body := f.do(t, "GET", path, ""); status != 200 || f.delivery.lastResult != want {
			t.Errorf("%s: %d %s, asked for %+v", path, status, body, f.delivery.lastResult)
		}
	}
	for _, x := range []struct {
		method, path, field string
		status              int
	}{
		{"POST", "/v1/repos/a/call", "group", 400},
		{"POST", "/v1/repos/a/call?group=ci&wait_ms=60001", "wait_ms", 400},
		{"POST", "/v1/repos/a/call?group=ci&wait=1", "wait", 400},
		{"POST", "/v1/repos/a/call?group=never&wait_ms=1", "group", 404},
		{"GET", "/v1/repos/a/results/1", "group", 400},
		{"GET", "/v1/repos/a/results/x?group=ci&by=sequence", "by", 400},
		{"GET", "/v1/repos/a/results/1?group=ci&by=name", "by", 400},
		{"POST", "/v1/repos/a/results/1?group=ci", "", 405},
	} {
		status, _, body := f.do(t, x.method, x.path, "content")
		if status != x.status || !strings.Contains(body, `"field":"`+x.field+`"`) {
			t.Errorf("%s %s: %d %s", x.method, x.path, status, body)
		}
	}
	if n := f.relay.count(); n != 2 {
		t.Errorf("%d packets were offered, and the last ones are not to be", n)
	}
	if status, _, body := f.do(t, "GET", "/v1/repos/acme/call", ""); status != 200 || !strings.Contains(body, `"repo_id":"acme/call"`) {
		t.Errorf("a repository that is called so: %d %s", status, body)
	}
	f.delivery.result = nil
	if status, _, _ := f.do(t, "GET", "/v1/repos/a/results/1?group=ci", ""); status != http.StatusNotFound {
		t.Errorf("no result: %d", status)
	}
}

// A packet whose outcome is not known is sent again under its id, as long as the call
// may wait, and one that is refused for load or for good is not.
func TestCallSendsAgain(t *testing.T) {
	f, _, c := grpcFixture(t)
	f.delivery.result = &actors.PacketResult{State: actors.ResultDone, Kept: true, Result: []byte("x")}
	req := func(waitMs uint32) *waystationv1.CallRequest {
		return &waystationv1.CallRequest{Packet: &waystationv1.CodePacket{RepoId: "a", PacketId: "p"}, Group: "ci", WaitMs: waitMs}
	}
	setRefusal := func(r *actors.Refusal) {
		f.relay.mu.Lock()
		defer f.relay.mu.Unlock()
		f.relay.refuse = r
	}
	setRefusal(&actors.Refusal{Code: actors.CodeUnknown, RetryAfter: time.Millisecond})
	var work sync.WaitGroup
	work.Go(func() {
		await(t, "several tries", func() bool { return f.relay.count() >= 3 })
		setRefusal(nil)
	})
	got, err := c.Call(t.Context(), req(60_000))
	work.Wait()
	if err != nil || string(got.GetResult().GetResult()) != "x" || got.GetReceipt().GetSequence() != 1 {
		t.Fatalf("call: %v, %v", got, err)
	}
	for _, x := range []struct {
		code string
		want codes.Code
	}{
		{actors.CodeResourceExhausted, codes.ResourceExhausted},
		{actors.CodeInvalidArgument, codes.InvalidArgument},
	} {
		setRefusal(&actors.Refusal{Code: x.code, RetryAfter: time.Millisecond})
		before := f.relay.count()
		if _, err := c.Call(t.Context(), req(60_000)); status.Code(err) != x.want || f.relay.count() != before+1 {
			t.Errorf("%s: %v, %d tries", x.code, err, f.relay.count()-before)
		}
	}
	setRefusal(&actors.Refusal{Code: actors.CodeUnavailable, RetryAfter: time.Millisecond})
	if _, err := c.Call(t.Context(), req(30)); status.Code(err) != codes.Unavailable && status.Code(err) != codes.Unknown {
		t.Errorf("a call whose time is over: %v", err)
	}
}

// A drain ends a wait at once, so that the caller goes on elsewhere.
func TestDrainEndsACall(t *testing.T) {
	f, _, c := grpcFixture(t)
	f.delivery.pullWaits = true
	ended := make(chan error, 1)
	go func() {
		_, err := c.GetResult(t.Context(), &waystationv1.GetResultRequest{RepoId: "a", Group: "ci", Sequence: 1, WaitMs: 60_000})
		ended <- err
	}()
	f.health.Drain()
	select {
	case err := <-ended:
		if status.Code(err) != codes.Unavailable {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the wait goes on")
	}
}
