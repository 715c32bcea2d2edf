package lease

// Credit counts the packets that one worker holds, or will hold once its grants
// are decided. The zero value lets nothing through.
type Credit struct {
	limit int
	held  int
	lost  int // part of held: packets whose lease ran out in the worker's hands
}

// SetLimit replaces the number of packets that may be held at once. What is held
// beyond it stays; nothing new is let through until it is settled.
func (c *Credit) SetLimit(n int) { c.limit = max(n, 0) }

// Limit is the number of packets that may be held at once.
func (c *Credit) Limit() int { return c.limit }

// Held is the number of packets that are held or reserved.
func (c *Credit) Held() int { return c.held }

// Free is how many more may be held.
func (c *Credit) Free() int { return max(c.limit-c.held, 0) }

// Reserve takes up to n and returns how many it took.
func (c *Credit) Reserve(n int) int {
	n = max(min(n, c.Free()), 0)
	c.held += n
	return n
}

// Hold counts n packets that are held whatever the limit says: open grants that
// are handed out again.
func (c *Credit) Hold(n int) { c.held += n }

// Release gives n back.
func (c *Credit) Release(n int) { c.held = max(c.held-n, 0) }

// Lose notes that n of the held packets' leases ran out. They stay held until
// the worker shows life: else a hung worker would be handed new lanes for ever,
// and charge each an attempt.
func (c *Credit) Lose(n int) { c.lost += n }

// Alive gives back what was lost: the worker said something.
func (c *Credit) Alive() {
	c.Release(c.lost)
	c.lost = 0
}
