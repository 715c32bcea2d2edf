package forward

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// idleFor is how long a connection beyond PoolConfig.KeepMin is kept unused.
const idleFor = 90 * time.Second

// pool is the connections to one service. net/http bounds those that are kept
// and those that there are, but has no least number that is kept: so there are three
// sets with a bound each, and a request takes the first one with room.
type pool struct {
	cfg     PoolConfig
	tickets chan struct{} // one a connection

	mu   sync.Mutex
	sets [3]set
}

type set struct {
	used, limit int
	client      *http.Client
	transport   *http.Transport
}

func newPool(cfg PoolConfig) *pool {
	p := &pool{cfg: cfg, tickets: make(chan struct{}, cfg.KeepMax+cfg.Burst)}
	for i, limit := range []int{cfg.KeepMin, cfg.KeepMax - cfg.KeepMin, cfg.Burst} {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true) // a connection is one request: what the bounds mean
		t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = limit, limit, limit
		t.IdleConnTimeout = []time.Duration{0, idleFor, 0}[i]
		t.DisableKeepAlives = i == 2
		t.DisableCompression = true // the body is passed on as it came
		p.sets[i] = set{limit: limit, transport: t, client: &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
	}
	return p
}

// take waits for a connection, PoolConfig.Wait at most. give gives it back.
func (p *pool) take(ctx context.Context) (c *http.Client, give func(), err error) {
	select {
	case p.tickets <- struct{}{}:
	default:
		timer := time.NewTimer(p.cfg.Wait)
		defer timer.Stop()
		select {
		case p.tickets <- struct{}{}:
		case <-timer.C:
			return nil, nil, fmt.Errorf("no connection within %v: all %d are busy", p.cfg.Wait, cap(p.tickets))
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.sets {
		if s := &p.sets[i]; s.used < s.limit {
			s.used++
			return s.client, func() { p.give(s) }, nil
		}
	}
	panic("a ticket without a connection")
}

func (p *pool) give(s *set) {
	p.mu.Lock()
	s.used--
	p.mu.Unlock()
	<-p.tickets
}

func (p *pool) close() {
	for i := range p.sets {
		p.sets[i].transport.CloseIdleConnections()
	}
}
