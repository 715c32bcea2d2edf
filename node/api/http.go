package api

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/waystation/waystation/actors"
)

// HTTPConfig is what the HTTP interface needs beside the calls.
type HTTPConfig struct {
	Listen  string       // what the node was told to listen on: decides about guard and profiles
	Metrics http.Handler // answers /metrics
	Health  *Health
	Logger  *slog.Logger
	// BodyBytes bounds what the bodies of all requests may take at once.
	BodyBytes int64
}

// HTTP is the HTTP/JSON interface, an http.Handler.
type HTTP struct {
	calls  *Calls
	cfg    HTTPConfig
	guard  *guard
	bodies *budget
	pprof  handler // nil beyond loopback
	fixed  map[string]methods
	groups map[string]methods

	bodyPause, bodyLimit time.Duration
}

// NewHTTP returns the HTTP interface of calls; without any, that of a node which
// starts: it answers how it is, and nothing else.
func NewHTTP(calls *Calls, cfg HTTPConfig) *HTTP {
	h := &HTTP{calls: calls, cfg: cfg, guard: newGuard(cfg.Listen), bodies: newBudget(cfg.BodyBytes), bodyPause: bodyPause, bodyLimit: bodyLimit}
	if h.guard != nil {
		h.pprof = profile
	}
	h.fixed = map[string]methods{
		"/healthz":    {get: h.healthz, early: true},
		"/readyz":     {get: h.readyz, early: true},
		"/metrics":    {get: h.metrics, early: true},
		"/v1/packets": {post: h.publishMany},
		"/v1/cluster": {get: h.cluster},
		"/v1/groups":  {get: h.listGroups, post: h.createGroup},
	}
	h.groups = map[string]methods{
		"":             {get: h.group, post: h.updateGroup, remove: h.deleteGroup},
		"pull":         {post: h.pull},
		"settle":       {post: h.settle},
		"renew":        {post: h.renew},
		"dead":         {get: h.dead},
		"dead/redrive": {post: h.redrive},
		"dead/discard": {post: h.discard},
	}
	return h
}

// writeLimit is how long an answer may take to be read by its client.
const writeLimit = time.Minute

// ServeHTTP answers one request. Every fault comes out as JSON.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		h.writeError(w, errorOf(err))
	}
}

func (h *HTTP) serve(w http.ResponseWriter, r *http.Request) error {
	if err := h.guard.check(r); err != nil {
		return err
	}
	m, p, err := h.match(r.URL.EscapedPath())
	if err != nil {
		return err
	}
	handle := m.of(r.Method)
	if handle == nil {
		w.Header().Set("Allow", m.allow())
		return &callError{Code: codeMethod, Message: r.Method + " is not allowed here: use " + m.allow()}
	}
	if h.calls == nil && !m.early {
		return errStarting
	}
	return handle(w, r, p)
}

func (h *HTTP) writeError(w http.ResponseWriter, e *callError) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", e.retryAfter())
	}
	if e.Code == actors.CodeInternal {
		h.cfg.Logger.Error("call failed", slog.String("error", e.Error()))
	}
	h.write(w, e.httpStatus(), struct {
		Error *jsonError `json:"error"`
	}{errorJSON(e.proto())})
}

// write answers with v as JSON. It is called once for a request, at its end.
func (h *HTTP) write(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		h.cfg.Logger.Error("encode answer", slog.Any("error", err))
		status = http.StatusInternalServerError
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	// Not every writer has deadlines, and without one the server's own holds.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a client that is gone is no fault of the node
}

func (h *HTTP) healthz(w http.ResponseWriter, _ *http.Request, _ params) error {
	h.writeHealth(w, h.cfg.Health.unhealthy())
	return nil
}

func (h *HTTP) readyz(w http.ResponseWriter, _ *http.Request, _ params) error {
	h.writeHealth(w, h.cfg.Health.unready())
	return nil
}

func (h *HTTP) writeHealth(w http.ResponseWriter, reason string) {
	if reason == "" {
		h.write(w, http.StatusOK, map[string]string{"status": "ok"})
		return
	}
	h.write(w, http.StatusServiceUnavailable, map[string]string{"status": "unavailable", "reason": reason})
}

func (h *HTTP) metrics(w http.ResponseWriter, r *http.Request, _ params) error {
	h.cfg.Metrics.ServeHTTP(w, r)
	return nil
}

// profile serves the runtime's profiles, which net/http/pprof would else put on
// the default mux only.
func profile(w http.ResponseWriter, r *http.Request, _ params) error {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a profile may take its minutes
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
	return nil
}
