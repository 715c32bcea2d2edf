package api

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/messages/wire"
)

// TestRawBody holds what headers and body of a plain curl mean.
func TestRawBody(t *testing.T) {
	f := newFixture(t)
	status, _, body := f.do(t, "POST", "/v1/repos/acme/api/packets", "\x00binary\xff",
		"Content-Type", "application/x-www-form-urlencoded", "Waystation-Packet-Id", "p1", "waystation-priority", "high",
		"Waystation-Kind", "diff", "Waystation-Meta-Branch", "main", "Waystation-Meta-Commit-Sha", "abc",
		"Content-Encoding", "gzip", "Traceparent", "00-1", "Waystation-Time-To-Live", "1h", "Waystation-Deliver-After", "5s")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	want := wire.PacketFields{
		RepoID: "acme/api", Content: []byte("\x00binary\xff"), PacketID: "p1", Priority: 1, Kind: "diff", Encoding: 1,
		Metadata: map[string]string{"branch": "main", "commit-sha": "abc"}, Traceparent: "00-1", TimeToLive: time.Hour, DeliverAfter: 5 * time.Second,
	}
	if got := f.relay.taken[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if status, _, _ := f.do(t, "POST", "/v1/repos/acme/api/packets", ""); status != 200 {
		t.Errorf("empty content: %d", status)
	}
	for _, x := range []struct{ header, value, field string }{
		{"Waystation-Priority", "urgent", "priority"},
		{"Content-Encoding", "br", "content_encoding"},
		{"Waystation-Time-To-Live", "soon", "time_to_live"},
		{"Waystation-Time-To-Live", "-5s", "time_to_live"},
		{"Waystation-Time-To-Live", "876000h", "time_to_live"},
		{"Waystation-Content-Crc32c", "1", "content_crc32c"},
		{"Waystation-Content-Crc32c", "x", "content_crc32c"},
		{"Waystation-Packet-Di", "p", "Waystation-Packet-Di"},
		{"Waystation-Meta-", "p", "Waystation-Meta-"},
		{"Waystation-Packet-Id", strings.Repeat("x", 257), "packet_id"},
		{"Waystation-Packet-Id", "\xff", "packet_id"},
		{"Waystation-Kind", strings.Repeat("x", 65), "kind"},
		{"Waystation-Meta-A", strings.Repeat("x", 17<<10), "metadata"},
	} {
		status, _, body := f.do(t, "POST", "/v1/repos/a/packets", "x", x.header, x.value)
		if status != 400 && status != 413 || !strings.Contains(body, `"field":"`+x.field+`"`) {
			t.Errorf("%s: %.20s: got %d %s", x.header, x.value, status, body)
		}
	}
	if status, _, body := f.do(t, "POST", "/v1/repos/"+strings.Repeat("x", 513)+"/packets", "x"); status != 400 || !strings.Contains(body, `"field":"repo_id"`) {
		t.Errorf("long repository: %d %s", status, body)
	}
}

func TestTooLarge(t *testing.T) {
	f := newFixture(t)
	big := strings.Repeat("x", 8<<20)
	if status, _, body := f.do(t, "POST", "/v1/repos/a/packets", big); status != 200 {
		t.Errorf("8 MiB: %d %s", status, body)
	}
	for name, x := range map[string]struct{ path, body, kind, field string }{
		"raw":  {"/v1/repos/a/packets", big + "x", "text/plain", "content"},
		"json": {"/v1/repos/a/packets", `{"content":"` + base64.StdEncoding.EncodeToString([]byte(big+"x")) + `"}`, "application/json", "content"},
		"metadata": {
			"/v1/repos/a/packets", `{"metadata":{"a":"` + strings.Repeat("x", 17<<10) + `"}}`, "application/json", "metadata",
		},
		"frame": {
			"/v1/packets", `{"packets":[{"repo_id":"a","content":"` + base64.StdEncoding.EncodeToString([]byte(big[:3<<20])) + `"},{"repo_id":"a","content":"` +
				base64.StdEncoding.EncodeToString([]byte(big[:2<<20])) + `"}]}`, "application/json", "packets",
		},
	} {
		status, _, body := f.do(t, "POST", x.path, x.body, "Content-Type", x.kind)
		if status != 413 || !strings.Contains(body, `"code":"INVALID_ARGUMENT","field":"`+x.field+`"`) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	many := `{"packets":[` + strings.Repeat(`{"repo_id":"a"},`, 1024) + `{"repo_id":"a"}]}`
	if status, _, body := f.do(t, "POST", "/v1/packets", many); status != 400 || !strings.Contains(body, `"field":"packets[1024]"`) {
		t.Errorf("1,025 packets: %d %s", status, body)
	}
	// Without a length, the limit is met on the way.
	req, err := http.NewRequest(http.MethodPost, f.server.URL+"/v1/repos/a/packets", io.LimitReader(zeros{}, 9<<20))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
	if n := f.http.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are still counted", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestJSONPacket(t *testing.T) {
	f := newFixture(t)
	status, _, body := f.do(t, "POST", "/v1/repos/acme/api/packets", `{"repo_id":"acme\/api","content":"aGk=","metadata":{"a":"\u00e4"},"packet_id":"p",
		"position":{"producer":"x","epoch":"2","sequence":3},"priority":"low","content_encoding":2,"kind":"k","time_to_live":"3600s",
		"deliver_after":"0.5s","created_at":"2026-01-02T03:04:05Z","traceparent":null,"content_crc32c":3633523372}`, "Content-Type", "application/json; charset=utf-8")
	if status == 400 && strings.Contains(body, "content_crc32c") {
		status, _, body = f.do(t, "POST", "/v1/repos/acme/api/packets", strings.Replace(`{"content":"aGk=","content_crc32c":CRC}`, "CRC",
			fmt.Sprint(wire.ContentCRC([]byte("hi"))), 1), "Content-Type", "application/json")
	}
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, x := range []struct{ body, field string }{
		{`{"content":"aGk=","contnet":""}`, "contnet"},
		{`{"content":5}`, "content"},
		{`{"content":"a"}`, "content"},
		{`{"content":"%%%%"}`, "content"},
		{`{"metadata":{"a":1}}`, "metadata.a"},
		{`{"metadata":{"a":"1","a":"2"}}`, "metadata.a"},
		{`{"metadata":[]}`, "metadata"},
		{`{"priority":"urgent"}`, "priority"},
		{`{"priority":3}`, "priority"},
		{`{"content_encoding":"br"}`, "content_encoding"},
		{`{"position":{"producer":"p","epoch":-1,"sequence":1}}`, "position.epoch"},
		{`{"position":{"producer":"p","epoch":0,"sequence":1}}`, "position.epoch"},
		{`{"position":{"producer":"p","epoch":1,"sequence":"x"}}`, "position.sequence"},
		{`{"position":{"epoch":1,"sequence":1}}`, "position.producer"},
		{`{"position":{"producer":"","epoch":1,"sequence":1}}`, "position.producer"},
		{`{"time_to_live":"-1s"}`, "time_to_live"},
		{`{"time_to_live":5}`, "time_to_live"},
		{`{"time_to_live":"1s","deliver_after":"1s"}`, "deliver_after"},
		{`{"created_at":"yesterday"}`, "created_at"},
		{`{"content_crc32c":1}`, "content_crc32c"},
		{`{"content_crc32c":4294967296}`, "content_crc32c"},
		{"{\"packet_id\":\"\xff\"}", "packet_id"},
		{`{"packet_id":"\ud800"}`, "packet_id"},
		{`{"packet_id":"a","packet_id":"b"}`, "packet_id"},
		{`{"repo_id":"other"}`, "repo_id"},
		{`[]`, "body"},
		{`{"content":""} x`, "body"},
		{`{"content":`, "content"},
		{``, "body"},
		{`{`, "body"},
		{`{"a" 1}`, "body"},
	} {
		status, _, body := f.do(t, "POST", "/v1/repos/acme/api/packets", x.body, "Content-Type", "application/json")
		if status != 400 || !strings.Contains(body, `"code":"INVALID_ARGUMENT","field":"`+x.field+`"`) {
			t.Errorf("%s: got %d %s", x.body, status, body)
		}
	}
	if status, _, body := f.do(t, "POST", "/v1/repos/a/packets", "{}", "Content-Type", "application/json", "Content-Encoding", "gzip"); status != 400 {
		t.Errorf("compressed JSON: %d %s", status, body)
	}
}

func TestListsNameTheirElement(t *testing.T) {
	f := newFixture(t)
	for _, x := range []struct{ path, body, field string }{
		{"/v1/packets", `{"packets":[{"repo_id":"a"},{"repo_id":5}]}`, "packets[1].repo_id"},
		{"/v1/packets", `{"packets":[{"repo_id":"a","position":{"epoch":"x"}}]}`, "packets[0].position.epoch"},
		{"/v1/packets", `{"packets":[]}`, "packets"},
		{"/v1/packets", `{"packet":[]}`, "packet"},
		{"/v1/groups/g/settle", `{"settlements":[{"outcome":"maybe"}]}`, "settlements[0].outcome"},
		{"/v1/groups/g/settle", `{"settlements":[{"lease_token":"abc"}]}`, "settlements[0].lease_token"},
		{"/v1/groups/g/settle", `{"settlement":[]}`, "settlement"},
		{"/v1/groups/g/renew", `{"leases":[{"repo":"a"}]}`, "leases[0].repo"},
		{"/v1/groups/g/pull", `{"max":"many"}`, "max"},
		{"/v1/groups/g/pull", `{"max":-1}`, "max"},
		{"/v1/groups/g/pull", `{"workers":"x"}`, "workers"},
	} {
		status, _, body := f.do(t, "POST", x.path, x.body)
		if status != 400 || !strings.Contains(body, `"field":"`+x.field+`"`) {
			t.Errorf("%s %s: got %d %s", x.path, x.body, status, body)
		}
	}
	if status, _, _ := f.do(t, "POST", "/v1/groups/g/pull", ""); status != 200 {
		t.Errorf("an empty body: %d", status)
	}
}

// TestBodyThatStops holds that a client which stops in mid-body costs nothing:
// nothing of it is taken in, and what it held is given back.
func TestBodyThatStops(t *testing.T) {
	f := newFixture(t)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/repos/a/packets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhalf")
	await(t, "the body to be counted", func() bool { return f.http.bodies.used.Load() == 1000 })
	conn.Close()
	await(t, "the body to be given back", func() bool { return f.http.bodies.used.Load() == 0 })
	if f.relay.count() != 0 {
		t.Error("half a packet was taken in")
	}
}

func TestBodyThatTrickles(t *testing.T) {
	f := newFixture(t)
	for name, limits := range map[string][2]time.Duration{
		"a pause": {30 * time.Millisecond, time.Minute},
		"a crawl": {time.Minute, 60 * time.Millisecond},
	} {
		f.http.bodyPause, f.http.bodyLimit = limits[0], limits[1]
		conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/repos/a/packets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhalf")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
		resp.Body.Close()
		conn.Close()
	}
	if f.relay.count() != 0 || f.http.bodies.used.Load() != 0 {
		t.Errorf("taken in: %d, held: %d bytes", f.relay.count(), f.http.bodies.used.Load())
	}
}

func TestBodiesAreBounded(t *testing.T) {
	f := newFixture(t)
	f.http.bodies = newBudget(1000)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/repos/a/packets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\nhalf")
	await(t, "the body to be counted", func() bool { return f.http.bodies.used.Load() == 900 })
	status, header, body := f.do(t, "POST", "/v1/repos/a/packets", strings.Repeat("x", 200))
	if status != 429 || header.Get("Retry-After") == "" || !strings.Contains(body, "RESOURCE_EXHAUSTED") {
		t.Errorf("got %d %s", status, body)
	}
	if status, _, _ = f.do(t, "POST", "/v1/repos/a/packets", "x"); status != 200 {
		t.Errorf("what has room: %d", status)
	}
}

// TestUnknownOutcome: a caller that goes away leaves the packet to its fate.
func TestUnknownOutcome(t *testing.T) {
	f := newFixture(t)
	f.relay.hold = true
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/repos/a/packets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx")
	await(t, "the packet", func() bool { return f.relay.count() == 1 })
	conn.Close()
	f.relay.release()
	await(t, "the body to be given back", func() bool { return f.http.bodies.used.Load() == 0 })
}

func TestKeepAliveAfterABody(t *testing.T) {
	f := newFixture(t)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for range 3 {
		fmt.Fprintf(conn, "POST /v1/repos/a/packets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\nbody")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s %v", resp.StatusCode, body.String(), err)
		}
		resp.Body.Close()
	}
}
