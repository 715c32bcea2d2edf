package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// worker works for one consumer group on the repositories of one raft group.
type worker struct {
	*client
	consumers repository.GroupID
	lost      bool // its stream broke: it wants its open grants again
	held      []*hold
	past      []*hold
	over      map[overKey]bool
	pulls     int // asked and not answered
}

// overKey is a lease of which its worker has said that it is over. It may be given
// it once more, before that has arrived; but it counts on it no more.
type overKey struct {
	repo  string
	token repository.Token
}

// hold is a lease as its worker knows it.
type hold struct {
	repo  string
	token repository.Token
	items []repository.Seq
	next  int           // items before it are settled, as far as the worker knows
	until time.Duration // the worker counts on it until then
	sent  []repository.Settle
	over  bool // its worker ended it, and may not have heard yet
}

func newWorker(w *world, i int) *worker {
	x := &worker{
		client:    &client{w: w, name: fmt.Sprintf("w%d", i), group: storage.GroupID(1 + i%w.set.Groups), stream: &stream{node: 1}},
		consumers: repository.GroupID(1 + (i/w.set.Groups)%w.set.Consumers),
		over:      map[overKey]bool{},
	}
	x.broken = func() { x.lost, x.pulls = true, 0 }
	return x
}

// consumerConfig is what a consumer group is made with.
func (w *world) consumerConfig(id repository.GroupID) repository.GroupConfig {
	c := repository.DefaultGroupConfig(fmt.Sprintf("c%d", id))
	r := newRand(w.set.Seed + uint64(id))
	c.ID, c.MaxAttempts, c.MaxBatch = id, uint64(2+r.IntN(4)), uint64(1+r.IntN(5))
	c.LeaseMs, c.BackoffBaseMs, c.BackoffMaxMs = uint64(w.set.LeaseMs), 100, 1000
	if id > 1 && r.IntN(3) == 0 {
		c.Start = repository.StartLatest
	}
	if w.set.Policies > 0 {
		c.OrderPolicy = repository.OrderPolicy(r.IntN(3))
	}
	return c
}

func (x *worker) step(o op) bool {
	if len(x.stream.out) >= maxOut {
		return false
	}
	switch o.kind {
	case opPull:
		return x.pull()
	case opSettle:
		return x.settle(newRand(o.n))
	case opRenew:
		return x.renew(int(o.n))
	}
	return false
}

func (x *worker) pull() bool {
	if x.pulls > 1 || len(x.held) > 3 {
		return false
	}
	again, s := x.lost, x.stream
	x.lost = false
	x.pulls++
	back := func() { x.pulls-- }
	x.ask(request{
		refuse: func() { back(); x.lost = x.lost || again },
		serve: func(d *leader) {
			d.pull(x, again, func(h *hold) {
				s.answer(func() { x.take(h) })
			}, func() { s.answer(back) })
		},
	})
	return true
}

// take keeps a grant that arrived.
func (x *worker) take(h *hold) {
	for _, old := range x.held {
		if old.repo == h.repo && old.token == h.token {
			return // it has it: again
		}
	}
	x.held = append(x.held, h)
}

func (x *worker) drop(h *hold) {
	h.until = 0
	for i, o := range x.held {
		if o == h {
			x.held = append(append([]*hold(nil), x.held[:i]...), x.held[i+1:]...)
			x.past = append(x.past, h)
		}
	}
	if len(x.past) > 6 {
		x.past = append([]*hold(nil), x.past[1:]...)
	}
}

// settle sends a settlement: of a lease that is held, or again, or of one that is
// over.
func (x *worker) settle(r *rand.Rand) bool {
	if len(x.past) > 0 && (len(x.held) == 0 || r.IntN(4) == 0) && !x.quiet {
		h := x.past[r.IntN(len(x.past))]
		s := repository.Settle{Group: x.consumers, Repo: []byte(h.repo), Token: h.token, Kind: repository.SettleDone, Through: h.items[r.IntN(len(h.items))]}
		if len(h.sent) > 0 && r.IntN(2) == 0 {
			s = h.sent[r.IntN(len(h.sent))]
		}
		x.over[overKey{h.repo, h.token}] = true
		x.send(h, s)
		return true
	}
	if len(x.held) == 0 {
		return false
	}
	h := x.held[r.IntN(len(x.held))]
	s := repository.Settle{Group: x.consumers, Repo: []byte(h.repo), Token: h.token, Kind: repository.SettleDone}
	h.next += r.IntN(len(h.items) - h.next + 1)
	if x.quiet {
		h.next = len(h.items)
	}
	if h.next > 0 {
		s.Through = h.items[h.next-1]
	}
	rest := len(h.items) - h.next
	switch k := r.IntN(8); {
	case rest == 0:
	case k == 0:
		s.Kind, s.Failed, s.Error = repository.SettleDead, h.items[h.next], []byte("never")
	case k < 3:
		s.Kind, s.Failed, s.Error = repository.SettleRetry, h.items[h.next], []byte("not now")
	case k == 3:
		s.Kind = repository.SettleRelease
	case k == 4 && r.IntN(3) == 0:
		s.Kind, s.Failed = repository.SettleRetry, h.items[len(h.items)-1] // perhaps not the next one: refused then
	case s.Through == 0:
		return false
	}
	h.sent = append(h.sent, s)
	x.send(h, s)
	if rest == 0 || s.Kind != repository.SettleDone {
		x.over[overKey{h.repo, h.token}] = true
		x.drop(h) // it counts on it no more
	}
	return true
}

func (x *worker) send(h *hold, s repository.Settle) {
	st := x.stream
	x.ask(request{
		refuse: func() { x.drop(h) },
		serve: func(d *leader) {
			d.settles = append(d.settles, settleOrder{s, func(res *repository.SettleOutcome) {
				var out *repository.SettleOutcome
				if res != nil { // its memory is used again
					c := *res
					out = &c
				}
				st.answer(func() { x.settled(h, out) })
			}})
		},
	})
}

func (x *worker) settled(h *hold, out *repository.SettleOutcome) {
	if out == nil {
		x.w.note("%s unknown", x.name)
		x.drop(h)
		return
	}
	x.w.note("%s settled %d", x.name, out.Code)
	if out.Code != repository.OK || out.Ended {
		x.drop(h)
	}
}

// renew asks for more time, for a lease that it holds.
func (x *worker) renew(n int) bool {
	if len(x.held) == 0 {
		return false
	}
	h, s, sent := x.held[n%len(x.held)], x.stream, x.w.now
	x.ask(request{
		refuse: func() {},
		serve: func(d *leader) {
			d.renew(x.consumers, h.repo, h.token, func(ok bool) {
				s.answer(func() {
					x.w.note("%s renewed %v", x.name, ok)
					switch {
					case !ok:
						x.drop(h)
					case x.over[overKey{h.repo, h.token}]:
					case x.holds(h): // else it has settled it meanwhile
						h.until = max(h.until, sent+time.Duration(x.w.set.LeaseMs)*time.Millisecond)
					}
				})
			})
		},
	})
	return true
}

func (x *worker) holds(h *hold) bool {
	for _, o := range x.held {
		if o == h {
			return true
		}
	}
	return false
}
