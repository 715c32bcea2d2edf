package route

import (
	"context"
	"sync"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/node/api"
)

// subSession is a session of this node that is asked for packets. *actors.Session
// is one.
type subSession interface {
	api.Session
	Ask(n uint32)
	Notes() (returned int, ready bool)
	Redelivered() int
	End(why *actors.Refusal)
}

// openLocal opens a session of this node.
func (r *Router) openLocal(ctx context.Context, cfg actors.SessionConfig) (subSession, error) {
	s, err := r.delivery.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s.(subSession), nil //nolint:forcetypeassert // New's delivery is said to have such ones
}

// direct is a session of a node that leads everything that is led: nothing stands
// between its worker and the node's own session. It ends when another node leads.
type direct struct {
	subSession
	r      *Router
	forget func()
}

// Pending implements api.Session. A partition without a leader may have packets.
func (d *direct) Pending() bool {
	t := d.r.table.Load()
	for i := range t.targets {
		if !t.targets[i].ok {
			return true
		}
	}
	return d.subSession.Pending()
}

// Close implements api.Session.
func (d *direct) Close() {
	d.forget()
	d.subSession.Close()
}

var refusedGrown = &actors.Refusal{
	Code: actors.CodeUnavailable, RetryAfter: 50 * time.Millisecond,
	Message: "other nodes lead partitions now; open the session again",
}

// watchTable has told called after each new table, until forget is called.
func (r *Router) watchTable(told func()) (forget func()) {
	key := &told
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followers[key] = told
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.followers, key)
	}
}

// Open implements api.Delivery.
func (x routedDelivery) Open(ctx context.Context, cfg actors.SessionConfig) (api.Session, error) {
	r := x.r
	if r.table.Load().elsewhere {
		return r.open(ctx, cfg)
	}
	s, err := r.openLocal(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var once sync.Once
	look := func() {
		if r.table.Load().elsewhere {
			once.Do(func() { s.End(refusedGrown) })
		}
	}
	d := &direct{subSession: s, r: r, forget: r.watchTable(look)}
	look() // it may have changed before it was watched
	return d, nil
}
