package actors

import (
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// run looks after the partition for one term.
func (k *keeper) run(term uint64, stop <-chan struct{}) {
	defer k.retire()
	if !k.load(term, stop) {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var chores chores
	for {
		select {
		case <-stop:
			return
		case <-k.d.stopping:
			return
		case <-k.wakeup:
		case <-timer.C:
		}
		next := k.maintain(k.d.mono())
		next = k.renew(next) // what is confirmed counts before the deadlines are looked at
		next = k.expire(next)
		next = k.look(next)
		next = chores.run(k, next)
		k.nudge()
		timer.Reset(max(next-k.d.mono(), 0))
	}
}

// maintain is when to look again for what is due by then: all partitions together,
// so that an idle node wakes once for them.
func (k *keeper) maintain(now time.Duration) time.Duration {
	every := k.d.cfg.MaintainEvery
	return now - now%every + every
}

// retire ends a term: what waits is answered, and the leases are kept for the case
// that this node leads again.
func (k *keeper) retire() {
	why := refusedNotLeader
	select {
	case <-k.d.stopping:
		why = refusedStopping
	default:
	}
	k.mu.Lock()
	k.serving = false
	for _, w := range k.windows {
		k.shut(w)
	}
	leases := make([]*openLease, 0, len(k.leases))
	for _, l := range k.leases {
		l.expiring = false
		k.due.Remove(&l.deadline)
		leases = append(leases, l)
	}
	waiting := append(append(append(k.renewals, k.round...), k.answered...), k.failed...)
	k.renewals, k.round, k.answered, k.failed = nil, nil, nil, nil
	k.roundNumber++
	k.mu.Unlock()
	for _, l := range leases {
		l.suspend(why)
	}
	for _, g := range k.d.all() { // who waits for this partition's first word waits no more
		g.wake(1 << 30)
	}
	answerRenewals(waiting, func(*renewal) (int64, *Refusal) { return 0, why })
}

// look reads pages of the index where windows want them, and returns when to look
// again, at next at the latest.
func (k *keeper) look(next time.Duration) time.Duration {
	nowMs, now := k.d.cfg.NowMs(), k.d.mono()
	k.mu.Lock()
	list := k.wanted[:0]
	for _, w := range k.windows {
		if w.wants(nowMs) {
			list = append(list, w)
		}
	}
	k.mu.Unlock()
	for i, w := range list {
		k.page(w)
		k.backfill(w)
		list[i] = nil
	}
	k.wanted = list[:0]
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.windows {
		if w.wants(nowMs) { // what was read was taken meanwhile
			next = now
		}
		if at := w.NextMs(); at != 0 && !w.backfilling {
			next = min(next, now+time.Duration(max(at-nowMs, 0))*time.Millisecond)
		}
	}
	return next
}

// chores is the maintenance that the replicated state asks for: it expires
// packets, parks lanes, removes what deleted groups left, sweeps what is past its retention, and drops what dedup needs no more.
// One command is under way at a time, so that a backlog of it never fills entries.
type chores struct {
	at   time.Duration // when to look again
	busy bool
	done chan chore
}

type chore struct{ more bool }

// run looks whether there is something to do, and returns when to look again, at
// next at the latest.
func (c *chores) run(k *keeper, next time.Duration) time.Duration {
	now := k.d.mono()
	if c.done == nil {
		c.done = make(chan chore, 1)
		c.at = k.maintain(now)
	}
	select {
	case x := <-c.done:
		c.busy = false
		if x.more {
			c.at = now
		}
	default:
	}
	if c.busy {
		return next // its end pokes
	}
	if c.at > now {
		return min(next, c.at)
	}
	c.at = k.maintain(now)
	k.tendWindows()
	var due repository.Due
	err := k.p.View(func(m *repository.Machine) (err error) {
		due, err = m.Due(k.d.cfg.NowMs())
		return err
	})
	if err != nil {
		k.d.log.Error("look for maintenance", "partition", k.p.ID(), "error", err)
		return next
	}
	if !due.Any() {
		return next
	}
	c.busy = true
	limit := k.d.cfg.MaintainItems
	add := func(e *repository.EntryBuilder) {
		if due.Park {
			e.AddPark(limit)
		}
		if due.Remove {
			e.AddRemove(limit)
		}
		if due.Expire {
			e.AddExpire(limit)
		}
		if due.Sweep {
			e.AddSweep(limit)
		}
		if due.Housekeep {
			e.AddHousekeep(limit)
		}
	}
	k.p.Command(add, func(res *repository.Results, err error) {
		c.done <- chore{more: err == nil && res.Worked >= int(limit)}
		k.poke()
	})
	return next
}

// idleWindow is how long a window outlives the group's last session.
const idleWindow = time.Minute

// tendWindows forgets the windows of groups that nobody works for any more, and
// opens those of groups that somebody came back to at that very moment.
func (k *keeper) tendWindows() {
	for _, g := range k.d.all() {
		if g.busy() {
			g.usedMs.Store(k.d.mono().Milliseconds())
			k.watch(g)
		}
	}
	k.mu.Lock()
	list := k.wanted[:0]
	for _, w := range k.windows {
		list = append(list, w)
	}
	k.mu.Unlock()
	for i, w := range list {
		list[i] = nil
		if k.d.mono()-time.Duration(w.g.usedMs.Load())*time.Millisecond < idleWindow {
			continue
		}
		k.mu.Lock()
		if k.windows[w.g.id] == w {
			k.shut(w)
		}
		k.mu.Unlock()
	}
	k.wanted = list[:0]
}

// renewal is a lease that somebody wants prolonged.
type renewal struct {
	call      *renewCall
	index     int
	l         *openLease
	arrivedMs int64 // wall clock; the promise counts from here
}

type renewCall struct{ done func([]RenewOutcome) }

// renew takes renewals of the group from whoever shows the right tokens.
func (g *consumers) renew(list []LeaseRef, done func([]RenewOutcome)) {
	call := &renewCall{done: done}
	now := time.Now().UnixMilli()
	var refused []RenewOutcome
	for i := range list {
		x := &list[i]
		if refusal := g.d.keeper(x.Repo).askRenewal(g.id, x, renewal{call: call, index: i, arrivedMs: now}); refusal != nil {
			refused = append(refused, RenewOutcome{Index: i, Repo: x.Repo, Token: x.Token, Refusal: refusal})
		}
	}
	if len(refused) > 0 {
		done(refused)
	}
}

func (k *keeper) askRenewal(g repository.GroupID, x *LeaseRef, r renewal) *Refusal {
	if x.Repo == "" || len(x.Repo) > maxRepoName {
		return invalid("repo_id", "must be 1 to 512 bytes of UTF-8")
	}
	if x.Token == 0 {
		return invalid("lease_token", "must be the delivery's")
	}
	k.mu.Lock()
	if !k.serving {
		led := k.term != 0
		k.mu.Unlock()
		if led {
			return refusedLoading
		}
		return refusedNotLeader
	}
	l := k.leases[laneKey{g, x.Repo}]
	if l == nil || l.token != x.Token || l.expiring {
		k.mu.Unlock()
		return refusedStale
	}
	r.l = l
	first := len(k.renewals) == 0
	k.renewals = append(k.renewals, r)
	k.mu.Unlock()
	if first {
		k.poke()
	}
	return nil
}

// renew confirms renewals: one round of heartbeats for all that came before it
// began, and not more often than every RenewEvery. It returns when to look again,
// at next at the latest.
func (k *keeper) renew(next time.Duration) time.Duration {
	now := k.d.mono()
	k.mu.Lock()
	answered, failed := k.answered, k.failed
	k.answered, k.failed = nil, nil
	begin := len(k.renewals) > 0 && len(k.round) == 0
	if begin && now < k.nextRound {
		next, begin = min(next, k.nextRound), false
	}
	number := k.roundNumber
	if begin {
		k.round, k.renewals = k.renewals, nil
		k.nextRound = now + k.d.cfg.RenewEvery
	}
	k.mu.Unlock()
	if begin {
		k.p.Barrier(func(err error) { k.confirmed(number, err) })
	}
	answerRenewals(answered, k.prolonged)
	answerRenewals(failed, func(*renewal) (int64, *Refusal) { return 0, refusedNotLeader })
	return next
}

// confirmed ends a round. It is called from the engine; late, perhaps, when the
// round's term is over and its renewals were refused: what waits by then came after
// the barrier began, and must have one of its own.
func (k *keeper) confirmed(number uint64, err error) {
	k.mu.Lock()
	if k.roundNumber != number {
		k.mu.Unlock()
		return
	}
	if err == nil {
		k.answered = append(k.answered, k.round...)
	} else {
		k.failed = append(k.failed, k.round...)
	}
	k.round = nil
	k.roundNumber++
	k.mu.Unlock()
	k.poke()
}

// prolonged counts a renewed lease from now on again, here; to the worker it is
// promised from when its renewal arrived.
func (k *keeper) prolonged(r *renewal) (expiresMs int64, refusal *Refusal) {
	l := r.l
	k.mu.Lock()
	if k.leases[l.key()] != l || l.expiring || !k.serving {
		k.mu.Unlock()
		return 0, refusedStale
	}
	k.due.Set(&l.deadline, k.d.mono()+l.length())
	k.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promisedMs = max(l.promisedMs, r.arrivedMs+int64(l.leaseMs))
	return l.promisedMs, nil
}

// answerRenewals answers those of one call together as far as they stand together.
func answerRenewals(list []renewal, decide func(*renewal) (int64, *Refusal)) {
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n].call == list[i].call {
			n++
		}
		out := make([]RenewOutcome, n)
		for j := range out {
			r := &list[i+j]
			expires, refusal := decide(r)
			out[j] = RenewOutcome{Index: r.index, Repo: r.l.repo, Token: r.l.token, ExpiresMs: expires, Refusal: refusal}
		}
		list[i].call.done(out)
		i += n
	}
}
