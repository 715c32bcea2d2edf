// Package verify decides, from what publishers and workers really saw, whether
// the promises held: nothing acknowledged was lost, nothing numbered or
// delivered twice, no order broken, no stale lease accepted.
//
// It is fed one event at a time and asked for Totals at the end. It has no
// goroutine, clock or IO; time comes in as a Tick. Events of different
// repositories may be fed at the same time, those of one repository too: each
// is judged in the order in which it arrives. A packet costs 16 bytes here, so
// that minutes at hundreds of thousands a second fit beside the node.
package verify

import (
	"sync/atomic"
	"time"
)

// Tick counts 10 µs steps since the run began; it lasts for 11 hours.
type Tick uint32

// TickLength is the duration of one Tick.
const TickLength = 10 * time.Microsecond

// TickOf returns the Tick in which d since the run's begin lies.
func TickOf(d time.Duration) Tick { return Tick(d / TickLength) }

// Since returns the time from one tick to a later one; 0 when it is not later.
func (t Tick) Since(earlier Tick) time.Duration {
	if t <= earlier {
		return 0
	}
	return time.Duration(t-earlier) * TickLength
}

// Priorities is how many priorities a repository's packets may have.
const Priorities = 3

// Verifier follows every packet of a run.
type Verifier struct {
	repos []repo
	live  live
}

// live are the counters that a progress line shows while the run goes on.
type live struct {
	sent, acked, settled, open atomic.Int64
}

// Live is what has happened so far.
type Live struct {
	// Sent, Acked and Settled count distinct packets; Open those that are
	// acknowledged and neither settled nor known to be dead.
	Sent, Acked, Settled, Open int64
}

// New returns a Verifier for repositories 0 to repos-1.
func New(repos int) *Verifier {
	return &Verifier{repos: make([]repo, repos)}
}

// Live returns the counters so far. It takes no lock.
func (v *Verifier) Live() Live {
	return Live{
		Sent:    v.live.sent.Load(),
		Acked:   v.live.acked.Load(),
		Settled: v.live.settled.Load(),
		Open:    v.live.open.Load(),
	}
}

// Send notes that the next packet of repository r is about to be sent, due at
// the given time, and returns its index within the repository, from 0, and
// whether the packet in front of it, if any, has its receipt. The caller sends a
// repository's packets in the order of their indexes.
func (v *Verifier) Send(r int, at Tick) (index uint32, frontAcked bool) {
	p := &v.repos[r]
	p.mu.Lock()
	index = uint32(len(p.records))
	frontAcked = index == 0 || p.records[index-1].is(markAcked)
	p.records = append(p.records, record{sent: at})
	p.mu.Unlock()
	v.live.sent.Add(1)
	return index, frontAcked
}

// Ack notes a receipt: packet index of repository r has this number. It is
// called for every receipt, those of resends too.
func (v *Verifier) Ack(r int, index uint32, number uint64, duplicate bool) {
	p := &v.repos[r]
	p.mu.Lock()
	change := p.ack(index, number, duplicate)
	p.mu.Unlock()
	v.live.add(change)
}

// Reject notes that a packet was refused for good and is not stored.
func (v *Verifier) Reject(r int, index uint32) { v.markOutcome(r, index, markRejected) }

// Unknown notes that a packet's outcome was never learned.
func (v *Verifier) Unknown(r int, index uint32) { v.markOutcome(r, index, markUnknown) }

func (l *live) add(c Live) {
	if c.Acked != 0 {
		l.acked.Add(c.Acked)
	}
	if c.Settled != 0 {
		l.settled.Add(c.Settled)
	}
	if c.Open != 0 {
		l.open.Add(c.Open)
	}
}

func (v *Verifier) markOutcome(r int, index uint32, m record64) {
	p := &v.repos[r]
	p.mu.Lock()
	p.records[index].word |= m
	p.mu.Unlock()
}

// Delivery is what a worker was handed.
type Delivery struct {
	// Index is what the packet itself says it is; Number, Token and Priority are the relay's words.
	Index    uint32
	Number   uint64
	Token    uint64
	Priority uint8
	// At is when it reached the worker.
	At Tick
}

// Seen says what a delivery meant.
type Seen struct {
	// First is set for a packet's first delivery; Took is then the time since it was due to be sent.
	First bool
	Took  time.Duration
	// OldToken is the repository's newest token before this delivery, when this one is newer; else 0.
	OldToken uint64
}

// Deliver notes that a worker was handed a packet whose content is what was sent.
func (v *Verifier) Deliver(r int, d Delivery) Seen {
	p := &v.repos[r]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deliver(d)
}

// Corrupt notes that a packet of repository r, handed to a worker or read back,
// is not one that was sent there, or not with that content. It does not count
// as delivered.
func (v *Verifier) Corrupt(r int) {
	p := &v.repos[r]
	p.mu.Lock()
	p.corrupt++
	p.mu.Unlock()
}

// Settle notes that a settlement as done was accepted.
func (v *Verifier) Settle(r int, number, token uint64, at Tick) {
	p := &v.repos[r]
	p.mu.Lock()
	change := p.settle(number, token, at)
	p.mu.Unlock()
	v.live.add(change)
}

// Confirm notes that the relay, asked about a packet that was delivered and whose
// settlement has no accepting answer, says that it is done. (The answer was lost
// with its connection, and the settlement sent again was no longer the lease's.)
// A packet that no worker had stays what it is.
func (v *Verifier) Confirm(r int, index uint32, at Tick) {
	p := &v.repos[r]
	p.mu.Lock()
	var change Live
	if rec := &p.records[index]; rec.is(markDelivered) {
		change = rec.settle(at)
	}
	p.mu.Unlock()
	v.live.add(change)
}

// StaleAccepted notes that a settlement which was made with an old token on
// purpose was accepted.
func (v *Verifier) StaleAccepted(r int) {
	p := &v.repos[r]
	p.mu.Lock()
	p.stale++
	p.mu.Unlock()
}

// Dead notes that the relay lists this number among the dead letters.
func (v *Verifier) Dead(r int, number uint64) {
	p := &v.repos[r]
	p.mu.Lock()
	change := p.dead(number)
	p.mu.Unlock()
	v.live.add(change)
}

// Found notes that a packet was read back under this number with the content
// that was sent.
func (v *Verifier) Found(r int, index uint32, number uint64) {
	p := &v.repos[r]
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(index) >= len(p.records) {
		p.corrupt++
		return
	}
	p.numbered(&p.records[index], number)
	p.records[index].word |= markFound
}
