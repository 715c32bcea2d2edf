package repository

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// positionRun says that the positions from pos on got the numbers from seq on.
type positionRun struct {
	pos uint64
	seq Seq
	n   uint64
}

// producer is what a repository knows of one producer: positions up to last are
// accepted, and the numbers of the newest ones are kept as runs without a gap,
// oldest first.
type producer struct {
	epoch, last uint64
	seenMs      int64
	runs        []positionRun
	dirty       bool
	charged     int // of the cache's budget
}

func (p *producer) cost() int {
	if p == nil {
		return producerCost
	}
	return p.charged
}

// append leaves out what follows from the rest: the positions, and of a run that
// goes on where the one before ended all but its length.
func (p *producer) append(b []byte) []byte {
	b = append(b, version1)
	b = binary.AppendUvarint(b, p.epoch)
	b = binary.AppendUvarint(b, p.last)
	b = binary.AppendUvarint(b, uint64(p.seenMs))
	expected := Seq(0)
	for i := range p.runs {
		b = binary.AppendUvarint(b, p.runs[i].n)
		b = binary.AppendVarint(b, int64(p.runs[i].seq-expected))
		expected = p.runs[i].seq + Seq(p.runs[i].n)
	}
	return b
}

func (p *producer) decode(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != version1 {
		return fmt.Errorf("unknown version %d", v)
	}
	p.epoch, p.last, p.seenMs = d.uvarint(), d.uvarint(), int64(d.uvarint())
	p.runs = p.runs[:0]
	total, expected := uint64(0), Seq(0)
	for d.more() {
		x := positionRun{n: d.uvarint()}
		x.seq = expected + Seq(d.varint())
		p.runs = append(p.runs, x)
		total, expected = total+x.n, x.seq+Seq(x.n)
		if x.n == 0 || total < x.n || total > p.last {
			return fmt.Errorf("%d positions of %d", total, p.last)
		}
	}
	pos := p.last - total + 1
	for i := range p.runs {
		p.runs[i].pos = pos
		pos += p.runs[i].n
	}
	return d.err
}

// advance accepts the next position as seq.
func (p *producer) advance(seq Seq) {
	p.last++
	if n := len(p.runs); n > 0 && p.runs[n-1].seq+Seq(p.runs[n-1].n) == seq {
		p.runs[n-1].n++
	} else {
		p.runs = append(p.runs, positionRun{p.last, seq, 1})
	}
}

// forget drops what lies more than window positions back, as far as that is cheap.
func (p *producer) forget(window uint64) {
	drop := 0
	for drop < len(p.runs)-1 && p.runs[drop].pos+p.runs[drop].n+window <= p.last+1 {
		drop++
	}
	p.runs = append(p.runs[:0], p.runs[drop:]...)
	if r := &p.runs[0]; r.n > 2*window { // a long run gives up what nobody may ask for
		cut := r.n - max(window, 1)
		r.pos, r.seq, r.n = r.pos+cut, r.seq+Seq(cut), r.n-cut
	}
}

// find returns the number that a position got.
func (p *producer) find(pos uint64) (Seq, bool) {
	for i := len(p.runs) - 1; i >= 0; i-- {
		if r := &p.runs[i]; pos >= r.pos {
			return r.seq + Seq(pos-r.pos), pos-r.pos < r.n
		}
	}
	return 0, false
}

// loadProducer returns nil when the repository does not know the producer.
func (m *Machine) loadProducer(r *repo, id []byte) (*producer, error) {
	if p, ok := r.producers[string(id)]; ok {
		return p, nil
	}
	if r.head == 0 {
		return nil, nil // nothing was ever accepted here
	}
	key := m.keyProducer(r.id, string(id))
	v, ok, err := m.base.Get(key)
	if err != nil || !ok {
		return nil, err
	}
	p := &producer{}
	if err := p.decode(v); err != nil {
		return nil, &CorruptError{bytes.Clone(key), err.Error()}
	}
	m.keepProducer(r, string(id), p)
	return p, nil
}

func (m *Machine) keepProducer(r *repo, id string, p *producer) {
	if r.producers == nil {
		r.producers = make(map[string]*producer, 1)
	}
	r.producers[id] = p
	m.chargeProducer(r, p)
}

func (m *Machine) chargeProducer(r *repo, p *producer) {
	cost := producerCost + positionCost*cap(p.runs)
	m.repos.charge(r, cost-p.charged)
	p.charged = cost
}

func (m *Machine) storeProducer(r *repo, id string, p *producer) {
	p.forget(m.cfg.ProducerWindowItems)
	m.vbuf = p.append(m.vbuf[:0])
	m.eff.set(m.keyProducer(r.id, id), m.vbuf)
	p.dirty = false
	m.chargeProducer(r, p)
}

// dropProducer forgets a producer. The cache remembers until the entry's end that
// there is none: the state shows it still.
func (m *Machine) dropProducer(r *repo, id string) {
	m.eff.delete(m.keyProducer(r.id, id))
	m.repos.charge(r, producerCost-r.producers[id].cost())
	r.producers[id] = nil
}
