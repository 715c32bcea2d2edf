package repository

// repoCache keeps the repositories that were used last, bounded by count and by
// the memory that they take. It evicts between entries only: within one, its
// objects are the overlay.
type repoCache struct {
	byID   map[string]*repo
	list   repo // sentinel: list.next is the newest
	limit  int
	budget int // bytes
	cost   int
}

// What things take in memory, in bytes, about.
const (
	repoCost     = 320
	laneCost     = 480
	producerCost = 176
	positionCost = 24 // a run of positions
)

func newRepoCache(limit, budget int) *repoCache {
	c := &repoCache{byID: make(map[string]*repo), limit: max(limit, 1), budget: budget}
	c.list.prev, c.list.next = &c.list, &c.list
	return c
}

func (c *repoCache) get(id []byte) (*repo, bool) {
	r, ok := c.byID[string(id)]
	if ok && c.list.next != r {
		r.prev.next, r.next.prev = r.next, r.prev
		c.front(r)
	}
	return r, ok
}

func (c *repoCache) front(r *repo) {
	r.prev, r.next = &c.list, c.list.next
	r.prev.next, r.next.prev = r, r
}

func (c *repoCache) put(r *repo) {
	c.byID[r.id] = r
	c.front(r)
	c.charge(r, repoCost+2*len(r.id))
}

// charge adds to what a repository takes; who still holds one that was evicted is
// done with it soon.
func (c *repoCache) charge(r *repo, bytes int) {
	if r.next != nil {
		r.cost += bytes
		c.cost += bytes
	}
}

// maxProducersCached bounds what one repository's cache entry holds: every
// process that ever sent is a producer.
const maxProducersCached = 64

// trim evicts what is over the limits; and the producers of the repository that was
// used last, when these are too many: sooner or later that is each one.
func (c *repoCache) trim() {
	if r := c.list.next; len(r.producers) > maxProducersCached {
		for _, p := range r.producers {
			c.charge(r, -p.cost())
		}
		clear(r.producers)
	}
	for len(c.byID) > c.limit || c.cost > c.budget && len(c.byID) > 1 {
		r := c.list.prev
		r.prev.next, r.next.prev = r.next, r.prev
		delete(c.byID, r.id)
		c.cost -= r.cost
		r.prev, r.next = nil, nil
	}
}
