package forward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPoolWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(PoolConfig{KeepMin: 1, KeepMax: 2, Burst: 1, Wait: 30 * time.Second})
		defer p.close()
		var give []func()
		for range 3 {
			_, g, err := p.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			give = append(give, g)
		}
		start := time.Now()
		if _, _, err := p.take(t.Context()); err == nil || time.Since(start) != 30*time.Second {
			t.Errorf("a fourth of three: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := p.take(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("without a context: %v", err)
		}
		time.AfterFunc(time.Second, give[0])
		start = time.Now()
		if c, _, err := p.take(t.Context()); err != nil || time.Since(start) != time.Second || c != p.sets[0].client {
			t.Errorf("once one is free: %v after %v", err, time.Since(start))
		}
	})
}

// Of as many connections as there may be, those beyond KeepMax end with their request.
func TestPoolKeeps(t *testing.T) {
	var mu sync.Mutex
	conns := map[http.ConnState]int{}
	var all sync.WaitGroup
	all.Add(6)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		all.Done()
		all.Wait()
	}))
	s.Config.ConnState = func(_ net.Conn, to http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		conns[to]++
	}
	s.Start()
	defer s.Close()
	f := forwarder(t, s.URL, func(c *Config) { c.Pool.KeepMin, c.Pool.KeepMax, c.Pool.Burst = 1, 4, 2 })
	var under sync.WaitGroup
	for range 6 {
		under.Go(func() {
			if err := f.Handle(within(t), delivery()); err != nil {
				t.Error(err)
			}
		})
	}
	under.Wait()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); ; {
		mu.Lock()
		opened, idle, closed := conns[http.StateNew], conns[http.StateIdle], conns[http.StateClosed]
		mu.Unlock()
		if opened == 6 && idle == 4 && closed == 2 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d opened, %d kept, %d closed; want 6, 4, 2", opened, idle, closed)
		}
	}
}
