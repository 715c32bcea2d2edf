package cluster_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// toy is a state machine that keeps a reference for each entry and refers to
// some payloads for ever, like packets that nobody has worked off.
//
//	group 'a'            applied index
//	group 'c'            the group's replicas
//	group 's'            spilled to
//	group 'e' index      what an entry was: term, proposal, checksum
//	group 'p' index      the spilled payload
type toy struct {
	group  storage.GroupID
	state  *storage.State
	keep   func(index uint64) bool // what must be spilled
	before func(e storage.Entry) error

	mu      sync.Mutex
	applied uint64
	spilled uint64
	lead    chan uint64
	term    uint64 // in which it leads

	installed func() // called by Installed
	stops     []uint64
	spillErr  error
	dropped   []uint64 // entries whose result nobody waited for
}

// drops tells whether the result of an entry was dropped, and how often.
func (t *toy) drops(index uint64) (times int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range t.dropped {
		if i == index {
			times++
		}
	}
	return times
}

func newToy(g storage.GroupID, s *storage.State) *toy {
	return &toy{group: g, state: s, keep: func(i uint64) bool { return i%3 == 0 }, lead: make(chan uint64, 16)}
}

func (t *toy) key(kind byte, index uint64) []byte {
	k := binary.BigEndian.AppendUint32(nil, uint32(t.group))
	k = append(k, kind)
	if kind == 'e' || kind == 'p' {
		k = binary.BigEndian.AppendUint64(k, index)
	}
	return k
}

func (t *toy) number(r storage.Reader, kind byte) (uint64, error) {
	v, err := r.Get(t.key(kind, 0))
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

func (t *toy) Applied() (uint64, []byte, error) {
	var err error
	if t.applied, err = t.number(t.state, 'a'); err != nil {
		return 0, nil, err
	}
	if t.spilled, err = t.number(t.state, 's'); err != nil {
		return 0, nil, err
	}
	return t.AppliedIn(t.state)
}

func (t *toy) AppliedIn(r storage.Reader) (uint64, []byte, error) {
	applied, err := t.number(r, 'a')
	if err != nil {
		return 0, nil, err
	}
	conf, err := r.Get(t.key('c', 0))
	if errors.Is(err, storage.ErrNotFound) {
		return applied, nil, nil
	}
	return applied, conf, err
}

func (t *toy) ApplyConf(e storage.Entry, conf []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.applied != 0 && e.Index != t.applied+1 {
		return fmt.Errorf("entry %d after %d", e.Index, t.applied)
	}
	b := t.state.NewBatch()
	b.Set(t.key('c', 0), conf)
	b.Set(t.key('a', 0), binary.BigEndian.AppendUint64(nil, e.Index))
	t.applied = e.Index
	return b.Commit()
}

func (t *toy) KeyRange() (lower, upper []byte) {
	return binary.BigEndian.AppendUint32(nil, uint32(t.group)), binary.BigEndian.AppendUint32(nil, uint32(t.group)+1)
}

func (t *toy) Installed() error {
	if t.installed != nil {
		t.installed()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _, err := t.Applied()
	return err
}

type outcome struct {
	Index uint64
	Void  bool
	toy   *toy
}

// Drop implements cluster.Unwanted.
func (o outcome) Drop() {
	o.toy.mu.Lock()
	defer o.toy.mu.Unlock()
	o.toy.dropped = append(o.toy.dropped, o.Index)
}

func (t *toy) Apply(e storage.Entry) (any, error) {
	if t.before != nil {
		if err := t.before(e); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.applied != 0 && e.Index != t.applied+1 {
		return nil, fmt.Errorf("entry %d after %d", e.Index, t.applied)
	}
	b := t.state.NewBatch()
	out := outcome{Index: e.Index, toy: t}
	if len(e.Data) > 0 {
		env, body, err := envelope.Parse(e.Data)
		if err != nil {
			return nil, err
		}
		out.Void = env.Term != e.Term
		v := binary.BigEndian.AppendUint64(nil, env.Term)
		v = binary.BigEndian.AppendUint64(v, env.Proposal)
		v = binary.BigEndian.AppendUint32(v, crc32.ChecksumIEEE(body))
		v = append(v, make([]byte, 8)...)
		copy(v[20:], body)
		b.Set(t.key('e', e.Index), binary.BigEndian.AppendUint32(v, uint32(len(e.Data))))
	}
	b.Set(t.key('a', 0), binary.BigEndian.AppendUint64(nil, e.Index))
	if err := b.Commit(); err != nil {
		return nil, err
	}
	t.applied = e.Index
	return out, nil
}

func (t *toy) Settled(upTo uint64) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := max(t.spilled, cluster.FirstIndex-1)
	for i < upTo && !t.keep(i+1) {
		i++
	}
	return i, nil
}

func (t *toy) Spill(upTo uint64, budget int, read func(uint64) ([]byte, error)) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spillErr != nil {
		return false, t.spillErr
	}
	b := t.state.NewBatch()
	i := max(t.spilled, cluster.FirstIndex-1)
	for copied := 0; i < upTo && copied < budget; i++ {
		if !t.keep(i + 1) {
			continue
		}
		data, err := read(i + 1)
		if err != nil {
			b.Discard()
			return false, err
		}
		b.Set(t.key('p', i+1), data)
		copied += len(data)
	}
	b.Set(t.key('s', 0), binary.BigEndian.AppendUint64(nil, i))
	if err := b.Commit(); err != nil {
		return false, err
	}
	t.spilled = i
	return i >= upTo, nil
}

func (t *toy) Durable(r storage.Reader, upTo uint64) (bool, error) {
	a, err := t.number(r, 'a')
	if err != nil {
		return false, err
	}
	s, err := t.number(r, 's')
	return a >= upTo && s >= upTo, err
}

func (t *toy) leading() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.term
}

func (t *toy) LeaderStart(term uint64) {
	t.mu.Lock()
	t.term = term
	t.mu.Unlock()
	select {
	case t.lead <- term:
	default:
	}
}

func (t *toy) LeaderStop(term uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stops = append(t.stops, term)
	t.term = 0
}

// checkAny is check for an entry whose size Apply noted.
func (t *toy) checkAny(e *cluster.Engine, index uint64) error { return t.check(e, index, -1) }

// check reads an applied entry back, from the log or the spill, and compares
// it with what Apply saw.
func (t *toy) check(e *cluster.Engine, index uint64, size int) error {
	v, err := t.state.Get(t.key('e', index))
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	if size < 0 {
		size = int(binary.BigEndian.Uint32(v[28:]))
	}
	data, err := e.ReadAt(t.group, index, 0, size, nil)
	if errors.Is(err, storage.ErrCompacted) {
		if !t.keep(index) {
			return nil
		}
		data, err = t.state.Get(t.key('p', index))
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	_, body, err := envelope.Parse(data)
	if err != nil {
		return err
	}
	if got := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)); !bytes.Equal(got, v[16:20]) {
		return fmt.Errorf("entry %d: payload differs", index)
	}
	return nil
}
