package sim

import (
	"errors"
	"time"

	"github.com/waystation/waystation/cluster/meta"
)

// call is a change of meta that a node wants. It is tried until its outcome is
// known, or its time is up.
type call struct {
	cmd   meta.Command
	about string // of calls about the same, one is made at a time
	done  func(r meta.Result, err error)
	until time.Duration
	busy  time.Duration // a try is under way until then
	tries int
}

// mail is a call from node to node, or its answer.
type mail struct {
	from, to int
	open     func(l *life)
}

const (
	callTime = 5 * time.Second
	tryTime  = time.Second
	tryPause = 100 * time.Millisecond
)

var errNoAnswer = errors.New("no answer")

// ask begins a call, unless there is one about the same.
func (l *life) ask(about string, cmd meta.Command, done func(r meta.Result, err error)) bool {
	for _, c := range l.calls {
		if c.about == about {
			return false
		}
	}
	l.calls = append(l.calls, &call{cmd: cmd, about: about, done: done, until: l.w.now + callTime})
	return true
}

func (l *life) expireCalls() {
	for _, c := range append([]*call(nil), l.calls...) {
		if c.until <= l.w.now {
			l.end(c, meta.Result{}, errNoAnswer)
		}
	}
}

func (l *life) end(c *call, r meta.Result, err error) {
	for i := range l.calls {
		if l.calls[i] == c {
			l.calls = append(append([]*call(nil), l.calls[:i]...), l.calls[i+1:]...)
			l.w.note("%d %s: %v %v", l.id, c.about, r, err)
			c.done(r, err)
			return
		}
	}
}

// idle is a call that may be tried now.
func (l *life) idle() int {
	for i, c := range l.calls {
		if c.busy <= l.w.now {
			return i
		}
	}
	return -1
}

// tryCall carries a call to whoever leads meta, as far as is known here.
func (l *life) tryCall(at int) bool {
	if at < 0 || at >= len(l.calls) || l.calls[at].busy > l.w.now {
		return false
	}
	c := l.calls[at]
	c.tries++
	c.busy = l.w.now + tryTime
	try := c.tries
	answer := func(r meta.Result, err error) {
		switch {
		case l.w.nodes[l.id].life != l || c.tries != try:
		case err == nil && !errors.Is(r.Err, meta.ErrVoid):
			l.end(c, r, r.Err)
		default:
			c.busy = l.w.now + tryPause
		}
	}
	g := l.group(meta.MetaGroup)
	if g == nil {
		// It has no replica: anybody will do who passes it on.
		l.post(1+try%l.w.set.Nodes, func(to *life) { to.carry(l, c.cmd, answer) })
		return true
	}
	if g.registrar != 0 {
		g.register(c.cmd, answer)
		return true
	}
	to := l.resolve(meta.MetaGroup, g.core.Status().Leader)
	if to == 0 || to == l.id {
		c.busy = l.w.now + tryPause
		return true
	}
	l.post(to, func(to *life) { to.carry(l, c.cmd, answer) })
	return true
}

// carry answers a call that another node makes.
func (l *life) carry(from *life, cmd meta.Command, answer func(meta.Result, error)) {
	back := func(r meta.Result, err error) {
		l.post(from.id, func(to *life) {
			if to == from {
				answer(r, err)
			}
		})
	}
	if g := l.group(meta.MetaGroup); g != nil && g.registrar != 0 {
		g.register(cmd, back)
		return
	}
	back(meta.Result{}, errNoAnswer)
}

// register proposes a command to meta.
func (g *group) register(cmd meta.Command, answer func(meta.Result, error)) {
	x := &waiting{key: waitKey{term: g.registrar}, unknown: func() { answer(meta.Result{}, errNoAnswer) }}
	x.decided = func(index, term uint64, res any) {
		g.w.oracle.durable(g, index, term)
		answer(res.(meta.Result), nil)
	}
	if err := g.propose(x, meta.Entry(cmd), nil); err != nil {
		answer(meta.Result{}, err)
	}
	g.drain()
}

// post sends a mail; one that is cut off is lost.
func (l *life) post(to int, open func(*life)) {
	w := l.w
	if w.cut[w.link(l.id, to)] || len(w.mails) >= maxMails {
		return
	}
	w.mails = append(w.mails, mail{l.id, to, open})
}

const maxMails = 64

// deliverMail brings a mail to its node, or loses it.
func (w *world) deliverMail(at int, lost bool) bool {
	if at < 0 || at >= len(w.mails) {
		return false
	}
	m := w.mails[at]
	w.mails = append(append([]mail(nil), w.mails[:at]...), w.mails[at+1:]...)
	if l := w.nodes[m.to].life; !lost && l != nil && (m.from == m.to || !w.cut[w.link(m.from, m.to)]) && !l.refuses(m.from) {
		l.hear(m.from)
		m.open(l)
	}
	return true
}
