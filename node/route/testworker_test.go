package route

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/node/api"
)

// worker works for a group at one node, and fails the test when a packet comes
// twice under one token, or more than its credit.
type worker struct {
	t       testing.TB
	c       *trio
	session api.Session
	credit  int

	mu      sync.Mutex
	held    []actors.Delivery
	seen    map[deliveryKey]bool
	settled map[string]int // "repo seq" -> how often settled as done
	order   map[string]repository.Seq
	open    int // settlements without an answer
	stale   int
	doubt   map[string]string // "repo seq" -> repo of what was answered as stale
}

func (c *trio) worker(at int, name string, credit int) *worker {
	c.t.Helper()
	s, err := c.nodes[at].router.Delivery().Open(c.t.Context(), actors.SessionConfig{Group: "g", Worker: name, Credit: uint32(credit)})
	if err != nil {
		c.t.Fatal(err)
	}
	return &worker{t: c.t, c: c, session: s, credit: credit, seen: map[deliveryKey]bool{}, settled: map[string]int{}, order: map[string]repository.Seq{}, doubt: map[string]string{}}
}

// take takes what there is.
func (w *worker) take() int {
	w.t.Helper()
	list := w.session.Take(1000, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range list {
		d := &list[i]
		k := deliveryKey{leaseKey{d.Repo, d.Token}, d.Seq}
		if w.seen[k] {
			w.t.Errorf("%s %d came twice under token %d", d.Repo, d.Seq, d.Token)
		}
		w.seen[k] = true
		if w.settled[fmt.Sprint(d.Repo, " ", d.Seq)] > 0 {
			w.t.Errorf("%s %d came after it was settled", d.Repo, d.Seq)
		}
		var p wire.Packet
		if err := p.Parse(d.Packet); err != nil || string(p.Repo) != d.Repo {
			w.t.Errorf("%s %d: packet of %q, %v", d.Repo, d.Seq, p.Repo, err)
		}
		w.held = append(w.held, *d)
	}
	// Grants that were committed and never delivered come from a new leader whatever
	// the credit is: their lanes would stand still otherwise.
	asked := 0
	for i := range w.held {
		if !w.held[i].Redelivered {
			asked++
		}
	}
	if asked > w.credit {
		w.t.Errorf("%d packets are held with a credit of %d", asked, w.credit)
	}
	return len(list)
}

// settle settles n of the packets that are held, the first ones.
func (w *worker) settle(n int) {
	w.mu.Lock()
	n = min(n, len(w.held))
	var list []actors.Settlement
	for _, d := range w.held[:n] {
		list = append(list, actors.Settlement{Repo: d.Repo, Seq: d.Seq, Token: d.Token, Outcome: actors.OutcomeDone})
	}
	w.held = append([]actors.Delivery(nil), w.held[n:]...)
	w.open += n
	w.mu.Unlock()
	w.session.Settle(list, func(out []actors.SettlementOutcome) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.open -= len(out)
		for _, x := range out {
			switch {
			case x.Refusal == nil:
				w.settled[fmt.Sprint(x.Repo, " ", x.Seq)]++
			case x.Refusal.Code == actors.CodeStaleLease:
				w.stale++
				w.doubt[fmt.Sprint(x.Repo, " ", x.Seq)] = x.Repo
			default:
				w.t.Errorf("settle %s %d: %v", x.Repo, x.Seq, x.Refusal)
			}
		}
	})
}

func (w *worker) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.settled)
}

// clearUp counts what was settled by a leader that was gone before it answered: the
// settlement came again at the next one, after the end of its lease. What was not
// settled comes again itself.
func (w *worker) clearUp() {
	w.mu.Lock()
	doubt := maps.Clone(w.doubt)
	w.mu.Unlock()
	for packet, repo := range doubt {
		info, err := w.c.nodes[0].router.Delivery().Repository(w.t.Context(), repo)
		if err != nil || slices.ContainsFunc(info.Groups, func(g actors.GroupCursor) bool { return g.Waiting > 0 }) {
			continue // later, when all of the repository is done
		}
		w.mu.Lock()
		w.settled[packet]++
		delete(w.doubt, packet)
		w.mu.Unlock()
	}
}

// next waits for news of the session.
func (w *worker) next() {
	w.t.Helper()
	select {
	case <-w.session.Ready():
	case <-w.session.Done():
		w.t.Fatalf("the session ended: %v", w.session.Err())
	case <-time.After(10 * time.Millisecond): // a settlement's answer is no news
	}
}

// work settles everything until n packets are.
func (w *worker) work(n int) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for w.count() < n && !w.t.Failed() {
		if w.take() == 0 {
			w.next()
			w.clearUp()
		}
		w.settle(1 << 30)
		if time.Now().After(deadline) {
			w.t.Fatalf("settled %d of %d; held %d", w.count(), n, w.session.Held())
		}
	}
	await(w.t, "answers", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.open == 0
	})
}

// send publishes n packets to each of some repositories of each partition.
func (c *trio) send(repos, n int) (total int) {
	c.t.Helper()
	for p := range testPartitions {
		for r := range repos {
			var list []wire.PacketFields
			for i := range n {
				list = append(list, wire.PacketFields{RepoID: c.repoIn(p, r), Content: fmt.Append(nil, i)})
			}
			for _, a := range c.nodes[p%3].publish(c.t, list...) {
				if a.refusal != nil {
					c.t.Fatal(a.refusal)
				}
			}
			total += n
		}
	}
	return total
}
