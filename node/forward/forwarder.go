package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/waystation/waystation/client"
)

// Forwarder hands packets to a service. It is safe for use from several goroutines.
type Forwarder struct {
	cfg      Config
	service  *pool
	fallback *pool // nil: none
}

// New returns a forwarder, or what is wrong with cfg. Close closes its connections.
func New(cfg Config) (*Forwarder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	f := &Forwarder{cfg: cfg, service: newPool(cfg.Pool)}
	if cfg.Fallback != "" {
		f.fallback = newPool(cfg.Pool)
	}
	return f, nil
}

// Close closes the connections that are kept. It may be called twice; a request
// under way goes on.
func (f *Forwarder) Close() {
	f.service.close()
	if f.fallback != nil {
		f.fallback.close()
	}
}

// Handle is a client.Handler: it posts the packet, waits for the answer, and returns
// what that says of the packet. ctx ends the request.
func (f *Forwarder) Handle(ctx context.Context, d *client.Delivery) error {
	first := f.post(ctx, f.service, f.cfg.URL, d)
	switch {
	case first.good():
		d.SetResult(first.body)
		return nil
	case f.fallback == nil || !first.down() || ctx.Err() != nil:
		return first.verdict(time.Now())
	}
	second := f.post(ctx, f.fallback, f.cfg.Fallback, d)
	if second.good() {
		d.SetResult(client.FallbackResult(first.fault(), second.body))
		return nil
	}
	// Whatever the fallback said, the service itself has not judged the packet.
	err := fmt.Errorf("%w; fallback: %w", first.fault(), second.fault())
	return client.RetryAfter(err, retryAfter(first.header.Get("Retry-After"), time.Now()))
}

// post sends the packet once, and reads what is kept of the answer.
func (f *Forwarder) post(ctx context.Context, p *pool, to string, d *client.Delivery) answer {
	c, give, err := p.take(ctx)
	if err != nil {
		return answer{err: err}
	}
	defer give()
	ctx, cancel := context.WithTimeoutCause(ctx, f.cfg.Timeout, fmt.Errorf("no answer within %v", f.cfg.Timeout))
	defer cancel()
	r, err := f.cfg.request(ctx, to, d, time.Now())
	if err != nil {
		return answer{err: err}
	}
	resp, err := c.Do(r)
	if err != nil {
		return answer{err: unanswered(ctx, err)}
	}
	defer resp.Body.Close()
	body, err := f.read(resp)
	if err != nil {
		return answer{err: unanswered(ctx, fmt.Errorf("read answer: %w", err))}
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}
}

// mostUnread is how much of an answer beyond what is kept is still read, so that
// its connection can be used again.
const mostUnread = 256 << 10

func (f *Forwarder) read(resp *http.Response) ([]byte, error) {
	keep := int64(mostQuoted)
	if resp.StatusCode/100 == 2 {
		keep = int64(f.cfg.MaxResult)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, keep))
	if err == nil {
		_, _ = io.CopyN(io.Discard, resp.Body, mostUnread) // else the connection is closed
	}
	return body, err
}

// unanswered says why there was no answer, without the URL, which may have
// a password.
func unanswered(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
