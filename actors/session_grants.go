package actors

import (
	"time"

	"github.com/waystation/waystation/actors/lease"
	"github.com/waystation/waystation/actors/repository"
)

// workset is what one round of a session gathers before it lets go of its locks:
// settlements and grants to be enqueued together, so that they share an entry,
// and answers to be given. Worksets are pooled.
type workset struct {
	d       *DeliveryService
	settles []*settleOp
	grants  []*grantOp
	picks   []pick
	counts  []int
	shares  []lease.Share
	looks   []look
	average int // packets of a lane, times 16
	answers []lease.Answer[ticket]
	replies []reply
	touched []*openLease
	again   []*openLease
}

func (d *DeliveryService) workset() *workset {
	ws, _ := d.worksets.Get().(*workset)
	if ws == nil {
		ws = &workset{d: d}
	}
	return ws
}

// submit enqueues what was gathered, gives the answers, and hands ws back. No lock
// may be held.
func (ws *workset) submit() {
	for i, op := range ws.settles {
		ws.settles[i] = nil
		op.k.p.Settle(&op.cmd, op.fn)
	}
	for i, op := range ws.grants {
		ws.grants[i] = nil
		op.k.p.Grant(&op.cmd, op.fn)
	}
	ws.reply()
	clear(ws.picks)
	clear(ws.touched)
	clear(ws.again)
	ws.settles, ws.grants, ws.picks = ws.settles[:0], ws.grants[:0], ws.picks[:0]
	ws.touched, ws.again = ws.touched[:0], ws.again[:0]
	ws.d.worksets.Put(ws)
}

// grantOp is a grant on its way. It is pooled: what it keeps of the result is its
// own copy.
type grantOp struct {
	s        *session
	by       *Session // whose credit it uses
	k        *keeper
	w        *laneWindow
	lane     *lease.Lane
	term     uint64
	reserved int
	atMs     int64 // wall clock before it was proposed: the promise counts from here
	cmd      repository.Grant
	res      repository.GrantResult
	err      error
	fn       func(*repository.GrantResult, error)
}

func (d *DeliveryService) newGrant() *grantOp {
	op, _ := d.grantOps.Get().(*grantOp)
	if op == nil {
		op = &grantOp{}
		op.fn = op.done // once, so that a grant does not allocate it
	}
	return op
}

// done takes the outcome in the apply loop: the window first, because an event of
// a later entry must find the lane gone.
func (op *grantOp) done(res *repository.GrantResult, err error) {
	op.err = err
	items := op.res.Items[:0]
	op.res = repository.GrantResult{Items: items}
	// Refused without a decision: the lane rests a little, or it would be asked
	// for again at once, for as long as there is no leader or too much to do.
	fate, readyMs := laneDelayed, op.k.d.cfg.NowMs()+refusedRestMs
	if err == nil {
		op.res = *res
		op.res.Items = append(items, res.Items...)
		switch res.Code {
		case repository.Void:
		case repository.NotReady:
			readyMs = max(res.ReadyMs, op.k.d.cfg.NowMs()+clockSlackMs)
		default:
			fate = laneDropped
		}
	}
	op.k.laneDone(op.w, op.lane, fate, readyMs)
	op.s.post(op)
}

// finish makes the lease known and its packets deliverable.
func (op *grantOp) finish(ws *workset) {
	s, k := op.s, op.k
	defer s.drop()
	defer op.recycle()
	var l *openLease
	if op.err == nil && op.res.Code == repository.OK {
		l = newLease(s, k, op.lane.Repo, op.cmd.LeaseMs, &op.res)
		l.promisedMs = op.atMs + int64(op.cmd.LeaseMs)
		if !k.register(l, op.term) {
			l = nil // the partition was led anew meanwhile, which found the lease
		}
	} else if op.err == nil && op.res.Code == repository.UnknownGroup {
		k.d.log.Debug("grant lease", "group", s.g.cfg.Load().Name, "partition", k.p.ID(), "error", "the partition does not know the group: it was deleted")
	}
	s.mu.Lock()
	s.inflight--
	s.reserved -= op.reserved
	if l == nil {
		s.credit.Release(op.reserved)
		s.unspent(op.by, op.reserved)
		s.mu.Unlock()
		return
	}
	s.credit.Release(op.reserved - len(op.res.Items))
	s.unspent(op.by, op.reserved-len(op.res.Items))
	s.link(l)
	l.by = op.by
	h := s.handle
	if s.draining || h == nil && !s.named {
		n := l.release(ws)
		s.credit.Release(n)
		s.unspent(op.by, n)
	} else {
		s.queue = append(s.queue, l)
	}
	s.mu.Unlock()
	if h != nil && !h.pull { // a pull waits for all of them, and the pump tells it
		h.signal()
	}
}

func (op *grantOp) recycle() {
	d, items := op.k.d, op.res.Items[:0]
	*op = grantOp{fn: op.fn, res: repository.GrantResult{Items: items}}
	d.grantOps.Put(op)
}

// link puts l in the list of the session's leases, and counts it as a reference.
// The caller holds s.mu.
func (s *session) link(l *openLease) {
	s.refs.Add(1)
	l.linked = true
	l.next = s.leases
	if l.next != nil {
		l.next.prev = l
	}
	s.leases = l
}

// unlink takes l out again; it answers false if it was not in. The caller holds
// s.mu, and drops the reference once it does not.
func (s *session) unlink(l *openLease) bool {
	if !l.linked {
		return false
	}
	l.linked = false
	if l.prev != nil {
		l.prev.next = l.next
	} else if s.leases == l {
		s.leases = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	}
	l.prev, l.next = nil, nil
	return true
}

// fill asks for grants until the session's credit or the lanes are used up. The
// grants are in ws then.
func (s *session) fill(ws *workset) {
	turn := int(s.turn.Add(1))
	for {
		s.mu.Lock()
		budget, batch, leaseMs, by := 0, s.maxBatch, s.leaseMs, s.handle
		if s.handle != nil && !s.draining {
			budget = s.reserve(s.g.d.cfg.MaxCredit)
		}
		s.reserved += budget
		s.mu.Unlock()
		if budget == 0 {
			s.pass()
			return
		}
		left := budget
		s.g.pick(ws, turn, max(1, min(budget/ws.usual(), maxLanesPerRound)))
		for i := 0; i < len(ws.picks); {
			n := 1
			for i+n < len(ws.picks) && ws.picks[i+n].k == ws.picks[i].k {
				n++
			}
			left = s.ask(ws, ws.picks[i:i+n], by, left, batch, leaseMs)
			i += n
		}
		s.mu.Lock()
		s.reserved -= left
		s.credit.Release(left)
		s.unspent(by, left)
		s.mu.Unlock()
		if len(ws.picks) > 0 {
			continue
		}
		s.g.wait(s)
		if s.g.ready.Load() <= 0 { // looked at after it waits, or an event between could pass by
			s.giveAskBack()
			return
		}
	}
}

// usual is about how many packets a lane had lately, so that no more lanes are
// taken than the credit will do for.
func (ws *workset) usual() int { return max(ws.average>>4, 1) }

// pass lets another session have what this one has no credit for, unless this one
// is to be asked for it first.
func (s *session) pass() {
	if s.asks() {
		s.g.wait(s) // first: else what turns ready now would wake nobody
	}
	if s.g.ready.Load() > 0 && !s.tellReady() {
		s.g.wake(1)
	}
}

// ask prepares the grants of picks, which are of one partition, and returns what
// is left of the credit. It looks at the lanes first, so that a grant reserves no
// more than there is, and a lane that is leased costs no command.
func (s *session) ask(ws *workset, picks []pick, by *Session, credit int, batch, leaseMs uint32) (left int) {
	k, now := picks[0].k, s.g.d.cfg.NowMs()
	ws.looks = ws.looks[:0]
	err := k.p.View(func(m *repository.Machine) error {
		for i := range picks {
			ws.looks = append(ws.looks, lookAt(m, s.g.id, picks[i].lane, now))
		}
		return nil
	})
	for i := range picks {
		p := &picks[i]
		switch {
		case err != nil || ws.looks[i].err != nil:
			k.laneDone(p.w, p.lane, laneDelayed, now+refusedRestMs)
		case ws.looks[i].readyMs > now:
			k.laneDone(p.w, p.lane, laneDelayed, ws.looks[i].readyMs)
		case ws.looks[i].waiting == 0:
			k.laneDone(p.w, p.lane, laneDropped, 0)
		case credit == 0:
			k.laneDone(p.w, p.lane, laneKept, 0)
		default:
			n := min(int(batch), ws.looks[i].waiting, credit)
			credit -= n
			ws.average += n - ws.average>>4
			s.grant(ws, p, by, n, leaseMs)
		}
	}
	return credit
}

// look is what a lane is like before its grant is asked for.
type look struct {
	waiting int // at most; 0: leased, or nothing to do
	readyMs int64
	err     error
}

func lookAt(m *repository.Machine, g repository.GroupID, l *lease.Lane, now int64) (x look) {
	info, err := m.Lane(g, bytesOf(l.Repo))
	if err != nil || info.Token != 0 || !info.Waiting {
		return look{err: err}
	}
	repo, _, err := m.Repo(bytesOf(l.Repo))
	if err != nil {
		return look{err: err}
	}
	most := uint64(1)
	for r, n := range repo.Counts { // what other groups have still to do is retained, too
		most = max(most, min(n, uint64(repo.Head-min(repo.Head, info.Cursors[r]))))
	}
	return look{waiting: int(min(most, 1<<20)), readyMs: info.ReadyMs}
}

func (s *session) grant(ws *workset, p *pick, by *Session, n int, leaseMs uint32) {
	op := s.g.d.newGrant()
	op.by = by
	op.s, op.k, op.w, op.lane, op.term, op.reserved = s, p.k, p.w, p.lane, p.term, n
	op.atMs = time.Now().UnixMilli()
	op.cmd = repository.Grant{
		Group: s.g.id, Repo: bytesOf(p.lane.Repo), Session: bytesOf(s.name),
		MaxItems: uint32(n), MaxBytes: s.g.d.cfg.GrantBytes, LeaseMs: leaseMs,
	}
	s.refs.Add(1)
	s.mu.Lock()
	s.inflight++
	s.mu.Unlock()
	ws.grants = append(ws.grants, op)
}
