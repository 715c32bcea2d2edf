package sim

import (
	"errors"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// partition is the state machine of a group on one node.
type partition struct {
	w       *world
	id      storage.GroupID
	state   *storage.State
	machine *repository.Machine
	eff     repository.Effects
}

func newPartition(w *world, l *life, g storage.GroupID) (*partition, error) {
	p := &partition{w: w, id: g}
	return p, p.installed(l)
}

// installed reads the state anew.
func (p *partition) installed(l *life) (err error) {
	p.state = l.states
	p.machine, err = repository.New(partitionOf(p.id), stateReader{l.states}, repository.Options{CachedRepositories: 2})
	return err
}

type stateReader struct{ state *storage.State }

func (r stateReader) Get(key []byte) ([]byte, bool, error) {
	v, err := r.state.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, err
}

func (r stateReader) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	return r.state.Scan(lower, upper, visit)
}

func (p *partition) found() (uint64, []byte, error) {
	conf, err := p.state.Get(p.machine.ConfKey())
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return p.machine.Applied(), conf, err
}

func (p *partition) keyRange() (lower, upper []byte) { return repository.KeyRange(partitionOf(p.id)) }

// apply applies an entry: its effects and the applied index in one batch.
func (p *partition) apply(g *group, e storage.Entry) any {
	p.eff.Reset()
	p.w.must(p.machine.Apply(e.Index, e.Term, e.Data, &p.eff))
	p.commit()
	p.w.oracle.applied(g, e, &p.eff, p.machine)
	return &p.eff.Results
}

// applyConf applies an entry that changes the replicas.
func (p *partition) applyConf(g *group, e storage.Entry, conf replica.Conf) {
	p.eff.Reset()
	p.w.must(p.machine.ApplyConf(e.Index, conf.Marshal(), &p.eff))
	p.commit()
	p.w.oracle.applied(g, e, &p.eff, p.machine)
}

func (p *partition) commit() {
	b := p.state.NewBatch()
	p.eff.Each(func(kind repository.OpKind, key, value []byte) {
		switch kind {
		case repository.OpSet:
			b.Set(key, value)
		case repository.OpSetNew:
			b.SetNew(key, value)
		case repository.OpDelete:
			b.Delete(key)
		case repository.OpDeleteRange:
			b.DeleteRange(key, value)
		}
	})
	p.w.must(b.Commit())
}

func (p *partition) spill(g *group, upTo uint64, n int) bool {
	for ; n > 0 && p.machine.Spilled() < upTo; n-- {
		index := p.machine.Spilled() + 1
		p.eff.Reset()
		p.w.must(p.machine.Spill(index, func() ([]byte, error) { return g.entryData(index) }, &p.eff))
		p.commit()
	}
	return p.machine.Spilled() >= upTo
}

func (p *partition) durable(r storage.Reader, upTo uint64) bool {
	for _, key := range [][]byte{p.machine.AppliedKey(), p.machine.SpilledKey()} {
		v, err := r.Get(key)
		p.w.must(err)
		at, err := repository.DecodeUint(v)
		p.w.must(err)
		if at < upTo {
			return false
		}
	}
	return true
}

// payload returns the bytes that ref refers to: from the log, else from the spill.
func (p *partition) payload(g *group, ref repository.Ref) ([]byte, error) {
	if _, ok := g.cache.Data(ref.Index); ok || ref.Index > g.life.logs.Truncated(g.id).Index {
		data, err := g.entryData(ref.Index)
		if err != nil {
			return nil, err
		}
		return data[ref.Offset : ref.Offset+ref.Length], nil
	}
	data, ok, err := p.machine.ReadSpill(ref)
	if err == nil && !ok {
		err = errors.New("payload is neither in the log nor spilled")
	}
	return data, err
}
