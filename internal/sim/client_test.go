package sim

import "github.com/waystation/waystation/storage"

// request is something that a client wants of its group's leader.
type request struct {
	serve  func(d *leader)
	refuse func() // the node does not lead
}

// stream is one connection of a client. Once broken, what is under way may still
// arrive, and is not answered.
type stream struct {
	node int
	out  []request
	in   []func()
	dead bool
}

// answer lets take be called at the client, if the answer still finds it.
func (s *stream) answer(take func()) {
	if !s.dead {
		s.in = append(s.in, take)
	}
}

// client talks to the nodes about one group.
type client struct {
	w       *world
	name    string
	group   storage.GroupID
	stream  *stream
	zombies []*stream
	quiet   bool   // the faults are over: nothing new, and no mischief
	broken  func() // told when the stream broke
}

const maxOut = 8

func (c *client) ask(r request) { c.stream.out = append(c.stream.out, r) }

func (c *client) reconnect(node int) {
	c.stream.dead, c.stream.in = true, nil
	if len(c.stream.out) > 0 && !c.quiet {
		c.zombies = append(c.zombies, c.stream)
	}
	if len(c.zombies) > 3 {
		c.zombies = append([]*stream(nil), c.zombies[1:]...)
	}
	c.stream = &stream{node: node}
	c.broken()
}

// arrive lets the oldest request of a stream arrive at its node: 0 is the current
// stream, others are broken ones.
func (c *client) arrive(which int) bool {
	s := c.stream
	if which > 0 {
		if which > len(c.zombies) {
			return false
		}
		s = c.zombies[which-1]
	}
	if len(s.out) == 0 {
		return false
	}
	r := s.out[0]
	s.out = s.out[1:]
	n := c.w.node(s.node)
	switch {
	case n == nil || n.life == nil:
		if s == c.stream {
			c.reconnect(1 + s.node%c.w.set.Nodes)
		} else {
			s.out = nil
		}
	case n.life.group(c.group) == nil || n.life.group(c.group).leader == nil:
		s.answer(r.refuse)
	default:
		r.serve(n.life.group(c.group).leader)
	}
	return true
}

// hear takes the oldest answer.
func (c *client) hear() bool {
	if len(c.stream.in) == 0 {
		return false
	}
	take := c.stream.in[0]
	c.stream.in = c.stream.in[1:]
	take()
	return true
}

// find goes to the leader, as its hints would take it.
func (c *client) find() {
	for i := 1; i <= c.w.set.Nodes; i++ {
		g := c.w.group(i, int(c.group))
		if g == nil || g.leader == nil || c.stream.node == i {
			continue
		}
		if old := c.w.group(c.stream.node, int(c.group)); old == nil || old.leader == nil || old.leads < g.leads {
			c.reconnect(i)
		}
	}
}

// clientStep runs an op of a client: producers come first, then workers.
func (w *world) clientStep(o op) bool {
	if o.a < 0 || o.a >= len(w.clients) {
		return false
	}
	c := w.clients[o.a]
	switch o.kind {
	case opRequest:
		return c.arrive(o.b)
	case opReply:
		return c.hear()
	case opBreak:
		c.reconnect(o.b)
		return true
	}
	if o.a < len(w.producers) {
		return w.producers[o.a].step(o)
	}
	return w.workers[o.a-len(w.producers)].step(o)
}
