package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/actors"
)

// How slowly a body may arrive. The pause between two pieces is bounded, and the
// whole, so that neither a client that stops nor one that trickles holds memory.
const (
	bodyPause = 10 * time.Second
	bodyLimit = time.Minute
)

// budget is bytes that several may take a part of. It never waits.
type budget struct {
	limit int64
	used  atomic.Int64
}

func newBudget(limit int64) *budget { return &budget{limit: limit} }

// take reserves n bytes; when nothing else is taken, however many.
func (b *budget) take(n int64) bool {
	if used := b.used.Add(n); used > b.limit && used != n {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// readBody reads a request's body of at most limit bytes; field is what is too
// large when it is longer. release gives its bytes back to the budget of all
// bodies; it is to be called exactly once when err is nil.
func (h *HTTP) readBody(w http.ResponseWriter, r *http.Request, limit int64, field string) (body []byte, release func(), err error) {
	size := r.ContentLength
	if size > limit {
		return nil, nil, bodyTooLarge(field, limit)
	}
	if size < 0 { // unknown: it may be as long as is allowed
		size = limit
	}
	if !h.bodies.take(size) {
		return nil, nil, &callError{
			Code: actors.CodeResourceExhausted, RetryAfter: 200 * time.Millisecond,
			Message: "the node is taking in as much over HTTP as it may hold; send again later",
		}
	}
	body, err = h.readPaced(w, r, limit)
	if err == nil && int64(len(body)) > limit {
		err = bodyTooLarge(field, limit)
	}
	if err != nil {
		h.bodies.give(size)
		return nil, nil, bodyError(err, field, limit)
	}
	return body, func() { h.bodies.give(size) }, nil
}

func bodyTooLarge(field string, limit int64) error {
	return tooLarge(field, "has more than "+strconv.FormatInt(limit, 10)+" bytes, the most that are allowed here")
}

func bodyError(err error, field string, limit int64) error {
	var call *callError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &call):
		return err
	case errors.As(err, &large):
		return bodyTooLarge(field, limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &callError{
			Code: actors.CodeUnavailable, Message: "the body stopped arriving; nothing of it was taken in",
			HTTP: http.StatusRequestTimeout,
		}
	}
	return invalid(field, "the body ended early: "+err.Error())
}

// readPaced reads the body under the deadlines above. Once all of it is there it
// clears them: net/http would else take one that passes during the call for a
// client that is gone. After a failure they stay, for net/http reads the rest.
func (h *HTTP) readPaced(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	control := http.NewResponseController(w)
	if r.Body == nil || r.ContentLength == 0 {
		_ = control.SetReadDeadline(time.Time{})
		return nil, nil
	}
	end := time.Now().Add(h.bodyLimit)
	pace := func() {
		next := time.Now().Add(h.bodyPause)
		if next.After(end) {
			next = end
		}
		_ = control.SetReadDeadline(next) // a writer without deadlines has none to fear
	}
	in := http.MaxBytesReader(w, r.Body, limit)
	body := make([]byte, 0, max(min(r.ContentLength, limit), 512)+1)
	for {
		pace()
		n, err := in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			_ = control.SetReadDeadline(time.Time{})
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
	}
}
