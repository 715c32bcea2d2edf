package sim

import (
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
)

// machine is what a group applies into: a partition, or meta.
type machine interface {
	// apply applies an entry, and returns what it came to; valid until the next call.
	apply(g *group, e storage.Entry) any
	applyConf(g *group, e storage.Entry, conf replica.Conf)
	// installed reads the state anew.
	installed(l *life) error
	// found is the applied index and the configuration, as the state has them.
	found() (applied uint64, conf []byte, err error)
	keyRange() (lower, upper []byte)
	// spill spills at most n entries of those up to upTo, and says whether all are.
	spill(g *group, upTo uint64, n int) bool
	durable(r storage.Reader, upTo uint64) bool
}

// registry is the state machine of the meta group on one node.
type registry struct {
	w     *world
	store *meta.Store
}

func (r *registry) apply(g *group, e storage.Entry) any {
	res, err := r.store.Apply(e)
	r.w.must(err)
	r.w.oracle.appliedMeta(g, e, r.store.View())
	return res
}

func (r *registry) applyConf(g *group, e storage.Entry, conf replica.Conf) {
	r.w.must(r.store.ApplyConf(e, conf.Marshal()))
	r.w.oracle.appliedMeta(g, e, r.store.View())
}

func (r *registry) installed(*life) error { return r.store.Installed() }

func (r *registry) found() (uint64, []byte, error) { return r.store.Applied() }

func (r *registry) keyRange() (lower, upper []byte) { return r.store.KeyRange() }

func (r *registry) spill(*group, uint64, int) bool { return true }

func (r *registry) durable(s storage.Reader, upTo uint64) bool {
	ok, err := r.store.Durable(s, upTo)
	r.w.must(err)
	return ok
}
