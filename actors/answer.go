package actors

import (
	"github.com/waystation/waystation/actors/intake"
	"github.com/waystation/waystation/actors/repository"
)

// answers gathers results by sink, so that an entry's receipts for one stream
// reach it in one call.
type answers struct {
	batches []sinkBatch
	last    int
	index   map[Sink]int // with many sinks
}

type sinkBatch struct {
	sink    Sink
	results []PublishResult
}

// fewSinks is how many are found faster by looking at each.
const fewSinks = 16

// next returns the place of the next result for sink.
func (a *answers) next(sink Sink) *PublishResult {
	if a.last >= len(a.batches) || a.batches[a.last].sink != sink {
		a.last = a.find(sink)
	}
	b := &a.batches[a.last]
	b.results = append(b.results, PublishResult{})
	return &b.results[len(b.results)-1]
}

func (a *answers) find(sink Sink) int {
	if len(a.batches) <= fewSinks {
		for i := range a.batches {
			if a.batches[i].sink == sink {
				return i
			}
		}
	} else if i, ok := a.index[sink]; ok {
		return i
	}
	return a.add(sink)
}

func (a *answers) add(sink Sink) int {
	n := len(a.batches)
	if n < cap(a.batches) {
		a.batches = a.batches[:n+1] // with the memory of its results
	} else {
		a.batches = append(a.batches, sinkBatch{})
	}
	a.batches[n].sink = sink
	if n >= fewSinks {
		if n == fewSinks {
			a.index = make(map[Sink]int, 4*fewSinks)
			for i := range n {
				a.index[a.batches[i].sink] = i
			}
		}
		a.index[sink] = n
	}
	return n
}

// flush gives each sink its results, and forgets them.
func (a *answers) flush() {
	for i := range a.batches {
		b := &a.batches[i]
		b.sink.Results(b.results)
		clear(b.results)
		*b = sinkBatch{results: b.results[:0]}
	}
	a.batches, a.last, a.index = a.batches[:0], 0, nil
}

// answer answers the packets of the entry that has finished.
func (p *Partition) answer() {
	e := p.loop.finished
	if e == nil {
		return
	}
	p.loop.finished = nil
	switch {
	case e.err != nil && p.relay.notProposed(e.err):
		p.deliver(e, intake.NotProposed, nil)
	case e.err != nil || e.applied == nil:
		p.deliver(e, intake.Unknown, nil)
	case e.applied.effects.Results.Void:
		p.deliver(e, intake.NotProposed, nil)
	default:
		p.deliver(e, intake.Decided, e.applied.effects.Results.Publish)
	}
	p.relay.intake.drained(e.bytes)
	e.reset()
}

// deliver gives the packets of an entry their outcomes: decided, or one failure
// for all. Whoever sent them is answered from here; the actors only learn the
// outcomes, for their filters and for the resends that wait there, and are not
// woken for it without need.
func (p *Partition) deliver(e *entry, failure intake.Failure, decided []repository.PublishResult) {
	out, t := &p.loop.answers, tally{}
	now := p.relay.now()
	refused := refusalCount{metrics: p.relay.metrics}
	for i := range e.groups {
		g := &e.groups[i]
		var first, last *flight
		for at := g.from; at < g.to; at++ {
			s, o := &e.sent[at], intake.Outcome{Failure: failure}
			if failure == intake.Decided {
				o.Result = decided[at]
			}
			res := out.next(s.sink)
			fillResult(res, g.resident.repo, e.ids[s.id:s.end:s.end], s.index, &o)
			if res.Refusal == nil {
				t.add(now - s.arrived)
			} else {
				refused.add(res.Refusal)
			}
			if s.flight == nil {
				continue
			}
			s.flight.Outcome, s.flight.Next = o, nil
			if first == nil {
				first = s.flight
			} else {
				last.Next = s.flight
			}
			last = s.flight
		}
		if first != nil { // they are the actor's from here on
			g.resident.mailbox.PostLazy(first, &g.resident.attached)
		}
	}
	out.flush()
	refused.flush()
	p.relay.metrics.publishDuration.add(&t)
}

func fillResult(res *PublishResult, repo, id []byte, index uint64, o *intake.Outcome) {
	*res = PublishResult{
		Index: index, Repo: repo, ID: id, Seq: o.Result.Seq, ContentDiffers: o.Result.ContentDiffers,
		Duplicate: o.Result.Code == repository.Duplicate, Refusal: outcomeRefusal(o),
	}
}

func (e *entry) reset() {
	if e.applied != nil {
		e.partition.appliedSet.put(e.applied)
	}
	clear(e.settles)
	clear(e.grants)
	clear(e.orders)
	clear(e.groups)
	clear(e.sent)
	e.settles, e.grants, e.orders = e.settles[:0], e.grants[:0], e.orders[:0]
	e.groups, e.sent, e.ids = e.groups[:0], e.sent[:0], e.ids[:0]
	e.applied, e.err, e.bytes = nil, nil, 0
}

// refusalCount counts refusals of one kind together: they come in rows.
type refusalCount struct {
	metrics *metrics
	refusal *Refusal
	n       int
}

func (c *refusalCount) add(r *Refusal) {
	if c.n > 0 && c.refusal.reason != r.reason {
		c.flush()
	}
	c.refusal = r
	c.n++
}

func (c *refusalCount) flush() {
	if c.n > 0 {
		c.metrics.refused(c.refusal, c.n)
	}
	c.n = 0
}
