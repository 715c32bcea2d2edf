package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/actors"
)

// same compares two JSON texts, and shows both when they differ.
func same(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("answer is no JSON: %v\n%s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("want is no JSON: %v\n%s", err, want)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %swant %s", got, want)
	}
}

const packetGolden = `"repo_id":"acme/api","sequence":"7","packet_id":"p1","priority":"HIGH","content":"aGk=","content_encoding":"GZIP",
	"metadata":{"branch":"main"},"kind":"diff","position":{"producer":"pr","epoch":"2","sequence":"3"},"time_to_live":"90s",
	"deliver_after":"1.5s","created_at":"2026-09-21T14:13:19Z","accepted_at":"2026-09-21T14:13:20Z"`

// TestAnswers holds the shape of every answer.
func TestAnswers(t *testing.T) {
	f := newFixture(t)
	for _, x := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/v1/repos/acme/api/packets", "diff", 200, `{"repo_id":"acme/api","packet_id":"","sequence":"1","duplicate":false,"content_differs":false}`},
		{"POST", "/v1/packets", `{"packets":[{"repo_id":"x","packet_id":"i","content":"aGk="},{"repo_id":""}]}`, 200, `{"results":[
			{"receipt":{"repo_id":"x","packet_id":"i","sequence":"1","duplicate":false,"content_differs":false}},
			{"error":{"code":"INVALID_ARGUMENT","field":"repo_id","message":"is empty: 1 to 512 bytes of UTF-8 name the repository","retry_after_ms":"0"}}]}`},
		{"GET", "/v1/repos/acme/api", "", 200, `{"repo_id":"acme/api","head":"9","backlog":"4","backlog_bytes":"400","partition":3,"parked":false,"groups":[
			{"group":"ci","cursors":{"high":"1","normal":"2","low":"3"},"leased_until":"2026-09-21T14:13:50Z","attempts":2,"lease_token":"11","waiting":"6"},
			{"group":"idle","cursors":{"high":"0","normal":"0","low":"0"},"leased_until":null,"attempts":0,"waiting":"0"}]}`},
		{"GET", "/v1/repos/acme/api/packets/7", "", 200, `{` + packetGolden + `,
			"groups":[{"group":"ci","state":"dead","attempts":5,"reason":"attempts","last_error":"exit 1"}]}`},
		{"GET", "/v1/repos/gone/packets/7", "", 200, `{"repo_id":"gone","sequence":"7",
			"groups":[{"group":"ci","state":"dead","attempts":5,"reason":"attempts","last_error":"exit 1"}]}`},
		{"GET", "/v1/repos/acme/api/packets?from=7&limit=1", "", 200, `{"packets":[{` + packetGolden + `}],"head":"9"}`},
		{"POST", "/v1/groups/ci/pull", `{"max":32,"wait_ms":10000,"lease_ms":30000,"worker":"ci-7"}`, 200, `{"deliveries":[{` + packetGolden + `,
			"attempt":2,"lease_token":"11","lease_ms":30000,"lease_expires_at":"2026-09-21T14:13:50Z","redelivered":true}]}`},
		{
			"POST", "/v1/groups/ci/settle", `{"settlements":[{"repo_id":"a","sequence":1,"lease_token":"11","outcome":"done"},{"repo_id":"b","sequence":"2","lease_token":5,"outcome":"retry","error":"e"}]}`, 200,
			`{"results":[{"repo_id":"a","sequence":"1"},{"repo_id":"b","sequence":"2","error":{"code":"STALE_LEASE","field":"lease_token","message":"the lease is over","retry_after_ms":"0"}}]}`,
		},
		{
			"POST", "/v1/groups/ci/settle", `{"settlements":[{"repo_id":"b","sequence":"2","lease_token":5,"outcome":"done"}]}`, 409,
			`{"error":{"code":"STALE_LEASE","field":"lease_token","message":"the lease is over","retry_after_ms":"0"},
			"results":[{"repo_id":"b","sequence":"2","error":{"code":"STALE_LEASE","field":"lease_token","message":"the lease is over","retry_after_ms":"0"}}]}`,
		},
		{
			"POST", "/v1/groups/ci/renew", `{"leases":[{"repo_id":"a","lease_token":"11"}]}`, 200,
			`{"results":[{"repo_id":"a","lease_token":"11","lease_expires_at":"2026-09-21T14:14:20Z"}]}`,
		},
		{"POST", "/v1/groups/ci/settle", `{}`, 200, `{"results":[]}`},
		{"GET", "/v1/groups/ci/dead?repo=r&reason=attempts&limit=5&cursor=c", "", 200, `{"dead":[{"repo_id":"acme/api","sequence":"7","packet_id":"p1",
			"reason":"attempts","attempts":5,"last_error":"exit 1","at":"2026-09-21T14:13:20Z","redrive_of":"3","failures":[
			{"at":"2026-09-21T14:13:19Z","error":"lease expired","silent":true},{"at":"2026-09-21T14:13:20Z","error":"exit 1","silent":false}]}],"cursor":"next:crattempts"}`},
		{"GET", "/v1/groups/ci/dead?since=yesterday", "", 400, `{"error":{"code":"INVALID_ARGUMENT","field":"since","message":"\"yesterday\": want a time such as \"2026-01-31T12:00:00Z\"","retry_after_ms":"0"}}`},
		{"POST", "/v1/groups/ci/dead/redrive", ``, 200, `{"redriven":"5","cursor":""}`},
		{"POST", "/v1/groups/ci/dead/redrive", `{"repo_id":"r","reason":"poison","rate":1000,"limit":3}`, 200, `{"redriven":"3","cursor":"3"}`},
		{"POST", "/v1/groups/ci/dead/discard", `{"repo_id":"r","sequence":"7","until":"2026-09-21T14:13:20Z","cursor":"4"}`, 200, `{"discarded":"1","cursor":""}`},
		{
			"DELETE", "/v1/groups/ci", "", 200, `{"deleted":"ci"}`,
		},
		{"DELETE", "/v1/groups/nobody", "", 404, `{"error":{"code":"NOT_FOUND","field":"group","message":"there is no such group","retry_after_ms":"0"}}`},
		{
			"POST", "/v1/groups", `{"name":"ci","start":"latest","max_attempts":3,"backoff_base":"2s","backoff_max":"1m","lease":"45s","max_batch":7,"order_policy":"block"}`, 200,
			`{"name":"ci","version":1,"start":"latest","max_attempts":3,"backoff_base":"2s","backoff_max":"1m0s","lease":"45s","max_batch":7,"order_policy":"block","result_ttl":"0s"}`,
		},
		{"POST", "/v1/groups", `{"name":"ci","order_policy":"sideways"}`, 400, `{"error":{"code":"INVALID_ARGUMENT","field":"order_policy","message":"must be skip, block or park","retry_after_ms":"0"}}`},
		{
			"POST", "/v1/groups/ci", `{"order_policy":"park"}`, 200,
			`{"name":"ci","version":2,"start":"","max_attempts":0,"backoff_base":"0s","backoff_max":"0s","lease":"0s","max_batch":0,"order_policy":"park","result_ttl":"0s"}`,
		},
		{"POST", "/v1/groups/ci", `{"name":"cd"}`, 400, `{"error":{"code":"INVALID_ARGUMENT","field":"name","message":"is not a field that this call knows","retry_after_ms":"0"}}`},
		{"GET", "/v1/groups", "", 200, `{"groups":[{"name":"ci","version":3,"start":"","max_attempts":5,"backoff_base":"0s","backoff_max":"0s","lease":"0s","max_batch":0,"order_policy":"skip","result_ttl":"0s"}]}`},
		{"GET", "/v1/groups/ci", "", 200, `{"name":"ci","version":3,"start":"","max_attempts":5,"backoff_base":"0s","backoff_max":"0s","lease":"0s","max_batch":0,"order_policy":"skip","result_ttl":"0s"}`},
		{"GET", "/v1/groups/cd", "", 404, `{"error":{"code":"NOT_FOUND","field":"group","message":"there is no such group","retry_after_ms":"0"}}`},
		{"GET", "/v1/cluster", "", 200, `{"cluster_id":"c1","name":"waystation","nodes":[{"id":"n1","name":"vm","state":"up",
			"addresses":{"grpc":"127.0.0.1:7400","http":"127.0.0.1:7401"},"version":"1","zone":"","leaders":1,"replicas":1}],
			"partitions":[{"id":0,"leader":"n1","voters":["n1"],"learners":[],"applied":"5","durable_copies":1}]}`},
		{"GET", "/healthz", "", 200, `{"status":"ok"}`},
		{"GET", "/readyz", "", 200, `{"status":"ok"}`},
	} {
		status, header, body := f.do(t, x.method, x.path, x.body)
		if status != x.status || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: status %d, type %s: %s", x.method, x.path, status, header.Get("Content-Type"), body)
			continue
		}
		same(t, body, x.want)
	}
	if status, _, body := f.do(t, "GET", "/metrics", ""); status != 200 || body != "metrics" {
		t.Errorf("metrics: %d %s", status, body)
	}
}

// TestPaths holds how a path is taken apart: nothing is cleaned or redirected.
func TestPaths(t *testing.T) {
	f := newFixture(t)
	for _, x := range []struct {
		path string
		repo string // where a packet goes; empty: refused
	}{
		{"/v1/repos/acme/packets", "acme"},
		{"/v1/repos/acme/api/packets", "acme/api"},
		{"/v1/repos/acme%2Fapi/packets", "acme/api"},
		{"/v1/repos/acme%2fapi/packets", "acme/api"},
		{"/v1/repos/packets/packets", "packets"},
		{"/v1/repos/a/packets/packets", "a/packets"},
		{"/v1/repos/a%2Fpackets%2F7/packets", "a/packets/7"},
		{"/v1/repos/a%20b/%C3%A4/packets", "a b/ä"},
		{"/v1/repos/a.b/..c/packets", "a.b/..c"},
		{"/v1/repos/a%252Fb/packets", "a%2Fb"},
		{"/v1/repos//packets", ""},
		{"/v1/repos/a//b/packets", ""},
		{"/v1/repos/a/b//packets", ""},
		{"/v1/repos//a/packets", ""},
		{"/v1/repos/./packets", ""},
		{"/v1/repos/a/../b/packets", ""},
		{"/v1/repos/a/%2e%2e/b/packets", ""},
		{"/v1/repos/a%2F..%2Fb/packets", ""},
		{"/v1/repos/a%2F/packets", ""},
		{"/v1/repos/%2Fa/packets", ""},
	} {
		f.relay.taken = nil
		status, header, body := f.do(t, "POST", x.path, "x")
		switch {
		case x.repo == "" && (status != 400 || !strings.Contains(body, `"field":"repo_id"`)):
			t.Errorf("%s: got %d %s", x.path, status, body)
		case x.repo != "" && (status != 200 || len(f.relay.taken) != 1 || f.relay.taken[0].RepoID != x.repo):
			t.Errorf("%s: got %d %s, taken %v", x.path, status, body, f.relay.taken)
		}
		if header.Get("Location") != "" {
			t.Errorf("%s: redirected", x.path)
		}
	}
	if status, _, body := f.do(t, "POST", "/v1/repos/%FF/packets", "x"); status != 400 || !strings.Contains(body, `"repo_id"`) {
		t.Errorf("not UTF-8: %d %s", status, body)
	}
}

func TestRoutesThatAreNone(t *testing.T) {
	f := newFixture(t)
	for _, x := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/v1", 404, ""},
		{"GET", "/v1/repos", 404, ""},
		{"GET", "/v1/cluster/", 404, ""},
		{"PUT", "/v1/groups/ci", 405, "GET, HEAD, POST, DELETE"},
		{"GET", "/v1/groups/ci/x", 404, ""},
		{"POST", "/v1/groups/ci/pull/", 404, ""},
		{"POST", "/v1/groups//pull", 400, ""},
		{"POST", "/v1/groups/../pull", 400, ""},
		{"GET", "/v1/repos/", 400, ""},
		{"GET", "/v1/repos/a/", 400, ""},
		{"GET", "/v1/repos/a/packets/x", 400, ""},
		{"GET", "/v1/repos/a/packets/0", 400, ""},
		{"GET", "/v1/repos/a/packets/-1", 400, ""},
		{"GET", "/v1/repos/a/packets/99999999999999999999", 400, ""},
		{"GET", "/v1/repos/absent", 404, ""},
		{"GET", "/v1/repos/a/packets?from=x", 400, ""},
		{"GET", "/v1/repos/a/packets?form=1", 400, ""},
		{"GET", "/v1/repos/a/packets?from=1&from=2", 400, ""},
		{"GET", "/v1/repos/a/packets?limit=5000", 400, ""},
		{"GET", "/v1/repos/a/packets?%zz", 400, ""},
		{"PUT", "/v1/repos/a/packets", 405, "GET, HEAD, POST"},
		{"OPTIONS", "/v1/packets", 405, "POST"},
		{"GET", "/v1/packets", 405, "POST"},
		{"DELETE", "/v1/cluster", 405, "GET, HEAD"},
		{"GET", "/v1/groups/ci/pull", 405, "POST"},
		{"POST", "/v1/groups/ci/dead", 405, "GET, HEAD"},
		{"GET", "/v1/groups/ci/dead/redrive", 405, "POST"},
		{"GET", "/v1/groups/ci/dead/discard", 405, "POST"},
		{"POST", "/v1/groups/ci/dead/revive", 404, ""},
	} {
		status, header, body := f.do(t, x.method, x.path, "")
		if status != x.status || header.Get("Allow") != x.allow || !strings.Contains(body, `{"error":{"code":"`) {
			t.Errorf("%s %s: got %d, allow %q: %s", x.method, x.path, status, header.Get("Allow"), body)
		}
	}
	if status, _, body := f.do(t, "HEAD", "/v1/cluster", ""); status != 200 || body != "" {
		t.Errorf("HEAD: %d %q", status, body)
	}
}

// TestErrorsHaveOneStatusEach holds the mapping to HTTP.
func TestErrorsHaveOneStatusEach(t *testing.T) {
	f := newFixture(t)
	for _, x := range []struct {
		refusal    actors.Refusal
		status     int
		retryAfter string
	}{
		{actors.Refusal{Code: actors.CodeInvalidArgument, Field: "f"}, 400, ""},
		{actors.Refusal{Code: actors.CodeNotFound}, 404, ""},
		{actors.Refusal{Code: actors.CodeFenced}, 409, ""},
		{actors.Refusal{Code: actors.CodeStaleLease}, 409, ""},
		{actors.Refusal{Code: actors.CodeGap, Expected: 5}, 409, ""},
		{actors.Refusal{Code: actors.CodeUnknownProducer}, 409, ""},
		{actors.Refusal{Code: actors.CodeResourceExhausted, RetryAfter: 1200 * time.Millisecond}, 429, "2"},
		{actors.Refusal{Code: actors.CodeUnavailable, RetryAfter: 100 * time.Millisecond}, 503, "1"},
		{actors.Refusal{Code: actors.CodeUnknown, RetryAfter: 100 * time.Millisecond}, 503, "1"},
		{actors.Refusal{Code: actors.CodeInternal}, 500, ""},
	} {
		f.relay.refuse = &x.refusal
		status, header, body := f.do(t, "POST", "/v1/repos/a/packets", "x")
		want := fmt.Sprintf(`"retry_after_ms":"%d"`, x.refusal.RetryAfter.Milliseconds())
		if status != x.status || header.Get("Retry-After") != x.retryAfter || !strings.Contains(body, want) || !strings.Contains(body, `"code":"`+x.refusal.Code+`"`) {
			t.Errorf("%s: got %d, Retry-After %q: %s", x.refusal.Code, status, header.Get("Retry-After"), body)
		}
	}
}

func TestForeignPagesAreRefused(t *testing.T) {
	f := newFixture(t)
	here := strings.TrimPrefix(f.server.URL, "http://")
	_, port, _ := net.SplitHostPort(here)
	for _, x := range []struct {
		headers []string
		status  int
	}{
		{nil, 200},
		{[]string{"Host", "localhost"}, 200},
		{[]string{"Host", "localhost:" + port}, 200},
		{[]string{"Host", "LOCALHOST.:80"}, 200},
		{[]string{"Host", "[::1]:80"}, 200},
		{[]string{"Host", "127.8.9.1"}, 200},
		{[]string{"Host", "evil.example"}, 403},
		{[]string{"Host", "evil.example:" + port}, 403},
		{[]string{"Host", "127.0.0.1.evil.example"}, 403},
		{[]string{"Host", "192.168.1.1"}, 403},
		{[]string{"Origin", "http://" + here}, 200},
		{[]string{"Origin", "https://" + here}, 403},
		{[]string{"Origin", "http://localhost:3000"}, 403},
		{[]string{"Origin", "http://127.0.0.1"}, 403},
		{[]string{"Origin", "null"}, 403},
		{[]string{"Origin", "http://evil.example"}, 403},
		{[]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{[]string{"Sec-Fetch-Site", "same-site"}, 403},
		{[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		{[]string{"Sec-Fetch-Site", "none"}, 200},
	} {
		for _, path := range []string{"/v1/cluster", "/metrics", "/healthz", "/debug/pprof/cmdline"} {
			status, header, body := f.do(t, "GET", path, "", x.headers...)
			if status != x.status || header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %v: got %d %s", path, x.headers, status, body)
			}
		}
	}
	f.relay.taken = nil
	if status, _, _ := f.do(t, "POST", "/v1/repos/a/packets", "x", "Origin", "http://evil.example"); status != 403 || len(f.relay.taken) != 0 {
		t.Errorf("a page's packet: %d, taken %d", status, len(f.relay.taken))
	}
}

func TestWithoutAHost(t *testing.T) {
	f := newFixture(t)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /healthz HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200") {
		t.Errorf("%v: %s", err, answer)
	}
}

func TestBeyondLoopback(t *testing.T) {
	f := newFixture(t)
	f.http = NewHTTP(f.calls, HTTPConfig{Listen: "0.0.0.0:7401", Health: f.health, Logger: f.http.cfg.Logger, BodyBytes: 1 << 20})
	f.server.Config.Handler = f.http
	if status, _, _ := f.do(t, "GET", "/v1/cluster", "", "Host", "relay.example"); status != 200 {
		t.Errorf("any host: %d", status)
	}
	if status, _, _ := f.do(t, "GET", "/debug/pprof/", ""); status != 404 {
		t.Errorf("profiles beyond loopback: %d", status)
	}
}

func TestHealth(t *testing.T) {
	f := newFixture(t)
	state := func(path string, status int, reason string) {
		t.Helper()
		got, _, body := f.do(t, "GET", path, "")
		if got != status || reason != "" && !strings.Contains(body, reason) {
			t.Errorf("%s: got %d %s, want %d %s", path, got, body, status, reason)
		}
	}
	f.quorum = errors.New("partition 3 has no leader")
	state("/readyz", 503, "partition 3 has no leader")
	state("/healthz", 200, "")
	f.quorum = nil
	state("/readyz", 200, "")
	f.health.Leave()
	state("/readyz", 503, "draining")
	if status, _, body := f.do(t, "POST", "/v1/repos/a/packets", "x"); status != 200 {
		t.Errorf("publish to a node that is about to go: %d %s", status, body)
	}
	f.health.Drain()
	f.health.Drain()
	state("/readyz", 503, "draining")
	state("/healthz", 200, "")
	if status, header, body := f.do(t, "POST", "/v1/repos/a/packets", "x"); status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "draining") {
		t.Errorf("publish: %d %s", status, body)
	}
	f.health.Ready() // too late
	state("/readyz", 503, "draining")
	f.health.Fail(errors.New("disk is gone"))
	state("/healthz", 503, "disk is gone")
	if f.health.State() != "down" {
		t.Errorf("state %q", f.health.State())
	}
	starting := NewHealth(func() error { return nil })
	if starting.unready() != "starting" || starting.State() != "starting" {
		t.Errorf("at first: %q", starting.unready())
	}
}

// A node that starts answers health, and says so to everything else.
func TestWithoutCalls(t *testing.T) {
	f := newFixture(t)
	f.server.Config.Handler = NewHTTP(nil, f.http.cfg)
	for path, status := range map[string]int{"/healthz": 200, "/v1/cluster": 503, "/v1/repos/a/packets": 503, "/nope": 404} {
		if got, _, body := f.do(t, "GET", path, ""); got != status {
			t.Errorf("%s: %d %s", path, got, body)
		}
	}
}

func TestPullEndsWithADrain(t *testing.T) {
	f := newFixture(t)
	f.delivery.pullWaits = true
	time.AfterFunc(20*time.Millisecond, f.health.Drain)
	if status, _, body := f.do(t, "POST", "/v1/groups/g/pull", `{"wait_ms":60000}`); status != 503 || !strings.Contains(body, "draining") {
		t.Errorf("got %d %s", status, body)
	}
}
