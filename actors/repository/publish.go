package repository

import (
	"fmt"

	"github.com/waystation/waystation/internal/invariant"
)

// published is one packet of a publish command, decoded in place.
type published struct {
	flags      byte
	rawCRC     uint32
	contentCRC uint32
	producer   []byte
	epoch      uint64
	position   uint64
	id         []byte
	ttlMs      uint64
	delayMs    uint64
	offset     int // of the packet's bytes, in the command
	length     int
}

func (p *published) decode(d *decoder) {
	p.flags = d.byte()
	p.rawCRC, p.contentCRC = d.uint32(), d.uint32()
	if Rank(p.flags&itemRank) >= Ranks {
		d.fail()
	}
	if p.flags&itemPosition != 0 {
		if p.flags&itemSameProducer == 0 {
			p.producer, p.epoch = d.bytes(), d.uvarint()
		}
		if p.position = d.uvarint(); len(p.producer) == 0 {
			d.fail()
		}
	}
	p.id, p.ttlMs, p.delayMs = nil, 0, 0
	if p.flags&itemID != 0 {
		p.id = d.bytes()
	}
	if p.flags&itemTTL != 0 {
		p.ttlMs = d.uvarint()
	}
	if p.flags&itemDelay != 0 {
		p.delayMs = d.uvarint()
	}
	raw := d.bytes()
	p.offset, p.length = d.off-len(raw), len(raw)
}

// publish numbers the packets of a publish command. off is where the command's
// body lies in the entry.
func (m *Machine) publish(body []byte, off int) error {
	d := decoder{b: body}
	for d.more() {
		name := d.bytes()
		n := d.uint32()
		if d.err != nil {
			break
		}
		r, err := m.loadRepo(name)
		if err != nil {
			return err
		}
		p := publication{m: m, r: r, off: off}
		if err := p.run(&d, int(n)); err != nil {
			return err
		}
	}
	if d.err != nil {
		return fmt.Errorf("decode publish: %w", d.err)
	}
	return nil
}

// publication is what a publish command has for one repository.
type publication struct {
	m        *Machine
	r        *repo
	off      int
	prod     *producer // of the packets in hand
	accepted bool
}

func (b *publication) run(d *decoder, n int) error {
	m := b.m
	for i := range m.runs {
		m.runs[i] = run{index: m.index, acceptedMs: m.logTimeMs, items: m.runs[i].items[:0]}
	}
	var p published // keeps the producer from one packet to the next
	for range n {
		p.decode(d)
		if d.err != nil {
			return fmt.Errorf("decode packet: %w", d.err)
		}
		if p.flags&itemPosition != 0 && p.flags&itemSameProducer == 0 {
			var err error
			if b.prod, err = m.loadProducer(b.r, p.producer); err != nil {
				return err
			}
		}
		res, err := b.one(&p)
		if err != nil {
			return err
		}
		if res.Code == Duplicate {
			m.eff.Results.Deduped++
		}
		m.eff.Results.Publish = append(m.eff.Results.Publish, res)
	}
	m.storePositions(b.r)
	if !b.accepted {
		return nil
	}
	return m.storeRuns(b.r)
}

func (b *publication) one(p *published) (PublishResult, error) {
	m, r := b.m, b.r
	positioned := p.flags&itemPosition != 0
	if positioned {
		if res, decided := m.checkPosition(b.prod, p); decided {
			return res, nil
		}
	}
	if len(p.id) > 0 && !invariant.Broken(invariant.DedupOnLeader) {
		seq, crc, found, err := m.findID(r.id, p.id)
		if err != nil {
			return PublishResult{}, err
		}
		if found {
			if positioned { // a duplicate by id still advances the position
				m.accept(r, p, &b.prod, seq)
			}
			return PublishResult{Seq: seq, Code: Duplicate, ContentDiffers: crc != p.contentCRC}, nil
		}
	}
	if r.count() >= m.cfg.BacklogPackets || r.bytes+uint64(p.length) > m.cfg.BacklogBytes && r.bytes > 0 {
		return PublishResult{Code: BacklogFull}, nil
	}
	if !b.accepted {
		if err := m.openLanes(r); err != nil {
			return PublishResult{}, err
		}
		b.accepted = true
	}
	r.head = max(r.head, floor(m.index)) + 1
	m.keepPacket(r, p, b.off)
	if len(p.id) > 0 {
		m.rememberID(r.id, p.id, r.head, p.contentCRC)
	}
	if positioned {
		m.accept(r, p, &b.prod, r.head)
	}
	return PublishResult{Seq: r.head, Code: OK}, nil
}

// keepPacket adds an accepted packet to the run of its rank.
func (m *Machine) keepPacket(r *repo, p *published, off int) {
	rank := Rank(p.flags & itemRank)
	it := runItem{
		seq: r.head, offset: uint32(off + p.offset), length: uint32(p.length), crc: p.rawCRC,
		flags: p.flags &^ (itemRank | itemSameProducer),
	}
	if p.ttlMs > 0 {
		it.expireMs = m.logTimeMs + int64(p.ttlMs)
		m.eff.setNew(m.keyDeadline(it.expireMs, r.id, rank, it.seq), nil)
	}
	s := &r.ranks[rank]
	if p.delayMs > 0 {
		it.readyMs = m.logTimeMs + int64(p.delayMs)
		s.delayed++
	}
	if s.count == 0 {
		s.first = it.seq
	}
	s.count++
	s.last = it.seq
	r.bytes += uint64(p.length)
	m.statsDirty = true
	m.stats.live[rank]++
	m.stats.bytes += uint64(p.length)
	for _, g := range m.groups {
		if g.asks(m.index) {
			g.waiting[rank]++
			g.dirty = true
		}
	}
	x := &m.runs[rank]
	if len(x.items) == 0 {
		x.base = it.offset
	}
	x.end = it.offset + it.length
	x.items = append(x.items, it)
}

// storeRuns writes what a repository got by this command.
func (m *Machine) storeRuns(r *repo) error {
	for rank := range Rank(Ranks) {
		x := &m.runs[rank]
		if len(x.items) == 0 {
			continue
		}
		m.vbuf = x.append(m.vbuf[:0])
		m.eff.setNew(m.keyRun(r.id, rank, x.last()), m.vbuf)
		m.keepRun(r, rank, x)
		m.noteManifest(r.id, rank, x)
	}
	if r.aged == 0 {
		r.aged = m.logTimeMs
		m.eff.set(m.keyAge(r.aged, r.id), nil)
	}
	m.touchRepo(r)
	return m.wake(r)
}
