package forward

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/client"
)

func TestRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	to := service(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	d := delivery()
	d.RepoID, d.Kind, d.Priority, d.ContentEncoding, d.RedriveOf = "acme/größe\r\nX: y", "model", client.PriorityHigh, client.EncodingGzip, 3
	d.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	d.Metadata = map[string]string{"Branch": "50% ", "a b": "no header's name", "c\r\nEvil": "x"}
	if err := forwarder(t, to+"/hook", nil).Handle(within(t), d); err != nil {
		t.Fatal(err)
	}
	id := Identity("ci", d.RepoID, 7)
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Content-Encoding": "gzip", "Idempotency-Key": id,
		"Waystation-Repo": "acme/gr%C3%B6%C3%9Fe%0D%0AX: y", "Waystation-Sequence": "7", "Waystation-Packet-Id": "push-1",
		"Waystation-Attempt": "2", "Waystation-Group": "ci", "Waystation-Priority": "high", "Waystation-Kind": "model", "Waystation-Lease-Token": "9",
		"Waystation-Redrive-Of": "3", "Waystation-Meta-Branch": "50%25%20", "Traceparent": d.Traceparent, "Webhook-Signature": "", "X": "", "Evil": "",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if got.Method != http.MethodPost || got.URL.Path != "/hook" || string(body) != "diff" || got.ContentLength != 4 {
		t.Errorf("%s %s %q", got.Method, got.URL, body)
	}
	for name := range got.Header {
		if strings.HasPrefix(name, "Waystation-Meta-") && name != "Waystation-Meta-Branch" {
			t.Errorf("header %q", name)
		}
	}
	if repo, err := url.PathUnescape(got.Header.Get("Waystation-Repo")); err != nil || repo != d.RepoID {
		t.Errorf("the repository is %q, %v", repo, err)
	}
	d.Traceparent = "00-x\r\nEvil: y"
	if err := forwarder(t, to, nil).Handle(within(t), d); err != nil || got.Header.Get("Traceparent") != "" {
		t.Errorf("a false traceparent: %v, %q", err, got.Header)
	}
}

func TestIdentity(t *testing.T) {
	seen := map[string]bool{}
	for _, x := range []struct {
		group, repo string
		sequence    uint64
	}{{"a", "bc", 1}, {"ab", "c", 1}, {"a", "bc", 2}, {"b", "ac", 1}} {
		id := Identity(x.group, x.repo, x.sequence)
		if seen[id] || strings.ContainsAny(id, ". /") || len(id) > 64 || id != Identity(x.group, x.repo, x.sequence) {
			t.Errorf("%v: %q", x, id)
		}
		seen[id] = true
	}
}

// The example of the specification of Standard Webhooks.
func TestSignatureIsStandard(t *testing.T) {
	keys, err := ReadKeys(strings.NewReader("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := signature(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Each key signs, and what is sent can be checked with any of them.
func TestSigned(t *testing.T) {
	var h http.Header
	to := service(t, func(_ http.ResponseWriter, r *http.Request) { h = r.Header })
	key := func(c string) Key { return Key(strings.Repeat(c, 32)) }
	f := forwarder(t, to, func(c *Config) { c.Keys = []Key{key("n"), key("o")} })
	if err := f.Handle(within(t), delivery()); err != nil {
		t.Fatal(err)
	}
	id, signed := h.Get("Webhook-Id"), strings.Fields(h.Get("Webhook-Signature"))
	seconds, err := strconv.ParseInt(h.Get("Webhook-Timestamp"), 10, 64)
	at := time.Unix(seconds, 0)
	if err != nil || id != Identity("ci", "acme/api", 7) || len(signed) != 2 || time.Since(at).Abs() > time.Hour {
		t.Fatalf("headers: %v", h)
	}
	for i, c := range []string{"n", "o"} {
		if want := signature([]Key{key(c)}, id, at, []byte("diff")); signed[i] != want {
			t.Errorf("signature %d: %s, want %s", i, signed[i], want)
		}
	}
}

func TestReadKeys(t *testing.T) {
	good := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 24)))
	keys, err := ReadKeys(strings.NewReader("# the new one\nwhsec_" + good + "\n\n  " + good + "  \n"))
	if err != nil || len(keys) != 2 || string(keys[1]) != strings.Repeat("k", 24) {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for name, text := range map[string]string{
		"none": "# nothing\n", "short": "c2hvcnQ=", "no base64": "!!hidden!!", "too many": strings.Repeat(good+"\n", 9),
		"long": base64.StdEncoding.EncodeToString(make([]byte, 65)),
	} {
		if keys, err := ReadKeys(strings.NewReader(text)); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}
