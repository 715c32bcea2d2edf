package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/client"
)

// service runs an HTTP service until the test ends.
func service(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// gone is the address of a service that is not there.
func gone(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

func forwarder(t *testing.T, url string, set func(*Config)) *Forwarder {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Group, cfg.URL = "ci", url
	if set != nil {
		set(&cfg)
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func delivery() *client.Delivery {
	return &client.Delivery{RepoID: "acme/api", PacketID: "push-1", Sequence: 7, Attempt: 2, LeaseToken: 9, Content: []byte("diff")}
}

// What each answer makes of a packet.
func TestVerdicts(t *testing.T) {
	for status, want := range map[int]string{
		200: "done", 201: "done", 204: "done", 301: "dead", 302: "dead", 307: "dead", 400: "dead", 404: "dead", 409: "dead", 422: "dead",
		408: "retry", 425: "retry", 429: "retry", 500: "retry", 502: "retry", 503: "retry", 599: "retry",
	} {
		calls := 0
		url := service(t, func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			if status != 204 {
				_, _ = io.WriteString(w, strings.Repeat("why", 1000))
			}
		})
		d := delivery()
		err := forwarder(t, url, nil).Handle(within(t), d)
		got := "retry"
		switch {
		case err == nil:
			got = "done"
		case client.IsDead(err):
			got = "dead"
		}
		if got != want || calls != 1 {
			t.Errorf("%d: %s after %d calls, want %s after 1: %v", status, got, calls, want, err)
		}
		if err == nil && status != 204 && len(d.Result()) != 3000 {
			t.Errorf("%d: a result of %d bytes", status, len(d.Result()))
		}
		if err != nil && (!strings.Contains(err.Error(), "whywhy") || len(err.Error()) > mostQuoted+100 || !strings.Contains(err.Error(), http.StatusText(status))) {
			t.Errorf("%d: error of %d bytes: %.80s", status, len(err.Error()), err)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	hangs := service(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or its end is not seen
		<-r.Context().Done()               // the server's Close waits for it
	})
	cuts := service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	for name, x := range map[string]struct {
		url  string
		want string
	}{
		"nobody there":      {gone(t), "refused"},
		"no answer in time": {hangs, "no answer within 50ms"},
		"half an answer":    {cuts, "read answer"},
	} {
		f := forwarder(t, x.url, func(c *Config) {
			if name == "no answer in time" {
				c.Timeout = 50 * time.Millisecond
			}
		})
		err := f.Handle(within(t), delivery())
		if err == nil || client.IsDead(err) || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "127.0.0.1/") {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// The handler's context ends a request, and then no fallback is asked.
func TestContextEndsRequest(t *testing.T) {
	ctx, cancel := context.WithCancelCause(within(t))
	url := service(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel(client.ErrLeaseLost)
		<-r.Context().Done()
	})
	other := service(t, func(http.ResponseWriter, *http.Request) { t.Error("the fallback was asked") })
	err := forwarder(t, url, func(c *Config) { c.Fallback = other }).Handle(ctx, delivery())
	if !errors.Is(err, client.ErrLeaseLost) {
		t.Errorf("got %v, want the lease's end", err)
	}
}

func TestFallback(t *testing.T) {
	good := service(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"label":"ok"}`) })
	busy := service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	refuses := service(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	slow := service(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	for name, x := range map[string]struct {
		url, fallback string
		result, err   string
		dead          bool
	}{
		"the first one is good":      {good, refuses, `{"label":"ok"}`, "", false},
		"5xx":                        {busy, good, `{"fallback_used":true,"primary_error":"answered 503 Service Unavailable","result":{"label":"ok"}}`, "", false},
		"the first one refuses":      {refuses, good, "", "answered 400", true},
		"the first one is overrun":   {slow, good, "", "answered 429", false},
		"neither":                    {busy, gone(t), "", "answered 503 Service Unavailable; fallback: ", false},
		"the fallback refuses alone": {busy, refuses, "", "fallback: answered 400", false},
	} {
		d := delivery()
		err := forwarder(t, x.url, func(c *Config) { c.Fallback = x.fallback }).Handle(within(t), d)
		if string(d.Result()) != x.result || (err == nil) != (x.err == "") || client.IsDead(err) != x.dead || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: result %s, error %v", name, d.Result(), err)
		}
	}
	d := delivery()
	if err := forwarder(t, gone(t), func(c *Config) { c.Fallback = good }).Handle(within(t), d); err != nil || !strings.Contains(string(d.Result()), "refused") {
		t.Errorf("nobody there: %s, %v", d.Result(), err)
	}
}

func TestResultIsBounded(t *testing.T) {
	url := service(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1000)) })
	d := delivery()
	err := forwarder(t, url, func(c *Config) { c.MaxResult = 10 }).Handle(within(t), d)
	if err != nil || string(d.Result()) != "xxxxxxxxxx" {
		t.Errorf("result %q, %v", d.Result(), err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-5": 0, "0": 0, "7": 7 * time.Second, " 120 ": 2 * time.Minute, "99999999999999999999": 0, "999999999": 24 * time.Hour,
		"Sun, 01 Mar 2026 12:01:30 GMT": 90 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Sun, 01 Mar 2027 11:00:00 GMT": 24 * time.Hour,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, set := range map[string]func(*Config){
		"no URL":        func(c *Config) { c.URL = "" },
		"no scheme":     func(c *Config) { c.URL = "example.com/x" },
		"other scheme":  func(c *Config) { c.URL = "ftp://example.com" },
		"fallback":      func(c *Config) { c.Fallback = "x" },
		"timeout":       func(c *Config) { c.Timeout = 0 },
		"result":        func(c *Config) { c.MaxResult = 1<<20 + 1 },
		"least":         func(c *Config) { c.Pool.KeepMin = 21 },
		"no connection": func(c *Config) { c.Pool = PoolConfig{Wait: 1} },
		"wait":          func(c *Config) { c.Pool.Wait = 0 },
	} {
		cfg := DefaultConfig()
		cfg.URL = "http://example.com/"
		set(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := validURL("url", "http://user:hidden@exa mple"); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a password in an error: %v", err)
	}
}
