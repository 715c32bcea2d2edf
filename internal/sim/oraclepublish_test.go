package sim

import (
	"bytes"

	"github.com/waystation/waystation/actors/repository"
)

type repoTruth struct {
	head  repository.Seq
	bySeq map[repository.Seq]*sent
	atMs  map[repository.Seq]int64 // when it was accepted
	byID  map[string]idTruth
	prods map[string]*prodTruth
	// redriven are the numbers that redriven packets got, of one group each.
	redriven map[repository.Seq]bool
}

type idTruth struct {
	seq  repository.Seq
	atMs int64
}

type prodTruth struct {
	epoch, last uint64
	seqs        map[uint64]repository.Seq // of the epoch
	newest      repository.Seq            // that was given to it, in any epoch
}

// published checks what Apply decided of a packet: P2 and P3.
func (t *truth) published(w *world, p *sent, r *repository.PublishResult) {
	x := t.repos[p.repo]
	prod := x.prods[p.producer]
	if prod == nil {
		prod = &prodTruth{seqs: map[uint64]repository.Seq{}}
		x.prods[p.producer] = prod
	}
	known, had := x.byID[string(p.id)]
	had = had && len(p.id) > 0
	within := had && t.timeMs < known.atMs+int64(w.set.WindowMs)
	same := prod.epoch == p.epoch && p.position > 0
	w.note("%s: %+v", p, *r)
	switch r.Code {
	case repository.OK:
		switch {
		case r.Seq != x.head+1:
			w.violate("%s: number %d follows %d", p, r.Seq, x.head)
		case within:
			w.violate("%s: number %d, but its id has number %d", p, r.Seq, known.seq)
		case same && prod.seqs[p.position] != 0:
			w.violate("%s: number %d, but its position has number %d", p, r.Seq, prod.seqs[p.position])
		case p.position > 0 && r.Seq < prod.newest:
			w.violate("%s: number %d after number %d", p, r.Seq, prod.newest)
		}
		x.head = r.Seq
		x.bySeq[r.Seq], x.atMs[r.Seq] = p, t.timeMs
		if len(p.id) > 0 {
			x.byID[string(p.id)] = idTruth{r.Seq, t.timeMs}
		}
		prod.newest = r.Seq
		t.placed(w, prod, p, r.Seq)
	case repository.Duplicate:
		switch {
		case same && prod.seqs[p.position] != 0:
			if prod.seqs[p.position] != r.Seq {
				w.violate("%s: duplicate of %d, but its position has number %d", p, r.Seq, prod.seqs[p.position])
			}
		case had:
			if known.seq != r.Seq || r.ContentDiffers {
				w.violate("%s: duplicate of %d, but its id has number %d (content differs: %v)", p, r.Seq, known.seq, r.ContentDiffers)
			}
			t.placed(w, prod, p, r.Seq)
		default:
			w.violate("%s: duplicate of %d, but nothing like it was accepted", p, r.Seq)
		}
	case repository.Gap:
		if same && r.Expected != prod.last+1 || !same && (p.epoch < prod.epoch || r.Expected != 1) {
			w.violate("%s: gap, expected %d, but position %d of epoch %d was the last", p, r.Expected, prod.last, prod.epoch)
		}
	case repository.UnknownProducer:
		if prod.last > 0 {
			w.violate("%s: unknown producer, but position %d of epoch %d was accepted", p, prod.last, prod.epoch)
		}
	case repository.Fenced:
		if p.epoch >= prod.epoch {
			w.violate("%s: fenced, but the newest epoch is %d", p, prod.epoch)
		}
	case repository.TooOld:
		if !same || p.position > prod.last {
			w.violate("%s: too old, but position %d of epoch %d was the last", p, prod.last, prod.epoch)
		}
	}
}

// placed notes that the position got the number: the next one, always.
func (t *truth) placed(w *world, prod *prodTruth, p *sent, seq repository.Seq) {
	if p.position == 0 {
		return
	}
	if p.epoch > prod.epoch {
		prod.epoch, prod.last, prod.seqs = p.epoch, 0, map[uint64]repository.Seq{}
	}
	if p.epoch < prod.epoch || p.position != prod.last+1 {
		w.violate("%s: accepted behind position %d of epoch %d", p, prod.last, prod.epoch)
	}
	prod.last = p.position
	prod.seqs[p.position] = seq
}

// acked checks a receipt that reached its producer.
func (o *oracle) acked(p *sent, r *repository.PublishResult) {
	x := o.groups[p.group].repos[p.repo]
	first := x.bySeq[r.Seq]
	switch {
	case first == nil:
		o.w.violate("%s: acknowledged as %d, which was never committed", p, r.Seq)
	case p.acked != 0 && p.acked != r.Seq && len(p.id) == 0:
		o.w.violate("%s: acknowledged as %d, and before as %d", p, r.Seq, p.acked)
	case !bytes.Equal(first.content, p.content):
		o.w.violate("%s: acknowledged as %d, which is %s", p, r.Seq, first)
	}
	p.acked = r.Seq
	o.w.progress++
}
