package route

import (
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// leaseKey names a lease within a group.
type leaseKey struct {
	repo  string
	token repository.Token
}

// deliveryKey names a packet under a lease; sequence 0 stands for all of the lease.
type deliveryKey struct {
	leaseKey
	seq repository.Seq
}

// hold is what a worker has of one lease.
type hold struct {
	seqs  map[repository.Seq]struct{}
	lease time.Duration
	until time.Time // the lease is long over by then, unless it was renewed
}

// forgetful is how many ended deliveries are remembered, in case that a former
// leader's word of them comes late.
const forgetful = 4096

// book knows what a worker holds, has settled, and is done with, so that no packet
// gets into its hands twice under one token.
type book struct {
	leases   map[leaseKey]*hold
	held     int
	settling map[deliveryKey]int
	over     map[deliveryKey]struct{}
	ring     []deliveryKey
	at       int
	looked   time.Time
}

func (b *book) init() {
	b.leases, b.settling, b.over = map[leaseKey]*hold{}, map[deliveryKey]int{}, map[deliveryKey]struct{}{}
}

// take counts a delivery as held, unless the worker has it, or had it.
func (b *book) take(d *actors.Delivery) bool {
	key := leaseKey{d.Repo, d.Token}
	h := b.leases[key]
	if h != nil {
		if _, have := h.seqs[d.Seq]; have {
			return false
		}
	}
	if b.settling[deliveryKey{key, d.Seq}] > 0 || b.ended(deliveryKey{key, d.Seq}) || b.ended(deliveryKey{key, 0}) {
		return false
	}
	if h == nil {
		h = &hold{seqs: map[repository.Seq]struct{}{}, lease: time.Duration(d.LeaseMs) * time.Millisecond}
		b.leases[key] = h
	}
	h.prolong(time.Now())
	h.seqs[d.Seq] = struct{}{}
	b.held++
	return true
}

// prolong counts the lease from now on. The margin is wide: what is given up while
// the lease lives would exceed the worker's credit.
func (h *hold) prolong(now time.Time) { h.until = now.Add(2*h.lease + time.Second) }

func (b *book) ended(k deliveryKey) bool {
	_, ok := b.over[k]
	return ok
}

func (b *book) remember(k deliveryKey) {
	if b.ended(k) {
		return
	}
	b.over[k] = struct{}{}
	if len(b.ring) < forgetful {
		b.ring = append(b.ring, k)
		return
	}
	delete(b.over, b.ring[b.at])
	b.ring[b.at] = k
	b.at = (b.at + 1) % forgetful
}

// settle notes that the worker settles a packet: it is out of its hands.
func (b *book) settle(k deliveryKey) {
	b.settling[k]++
	h := b.leases[k.leaseKey]
	if h == nil {
		return
	}
	if _, have := h.seqs[k.seq]; have {
		delete(h.seqs, k.seq)
		b.held--
	}
	h.prolong(time.Now())
	if len(h.seqs) == 0 {
		delete(b.leases, k.leaseKey)
	}
}

// settled ends a settlement that took effect, or never can: over says that so is the
// whole lease.
func (b *book) settled(k deliveryKey, over bool) {
	b.answered(k)
	b.remember(k)
	if over {
		b.end(k.leaseKey)
	}
}

// unsettled ends a settlement that was not decided: the worker, which has the packet
// still, is told to send it again.
func (b *book) unsettled(k deliveryKey) {
	b.answered(k)
	if b.settling[k] > 0 || b.ended(k) || b.ended(deliveryKey{k.leaseKey, 0}) {
		return
	}
	h := b.leases[k.leaseKey]
	if h == nil {
		h = &hold{seqs: map[repository.Seq]struct{}{}, lease: time.Minute}
		b.leases[k.leaseKey] = h
	}
	h.prolong(time.Now())
	if _, have := h.seqs[k.seq]; !have {
		h.seqs[k.seq] = struct{}{}
		b.held++
	}
}

func (b *book) answered(k deliveryKey) {
	if b.settling[k]--; b.settling[k] <= 0 {
		delete(b.settling, k)
	}
}

// end forgets a lease that is over.
func (b *book) end(k leaseKey) {
	b.remember(deliveryKey{k, 0})
	if h := b.leases[k]; h != nil {
		b.held -= len(h.seqs)
		delete(b.leases, k)
	}
}

// renewed counts a lease from now on.
func (b *book) renewed(k leaseKey) {
	if h := b.leases[k]; h != nil {
		h.prolong(time.Now())
	}
}

// alive gives up what ran out in the worker's hands: it said something, so it is
// not hung with it.
func (b *book) alive(now time.Time) {
	if now.Sub(b.looked) < time.Second {
		return
	}
	b.looked = now
	for k, h := range b.leases {
		if now.After(h.until) {
			b.end(k)
		}
	}
}

// clear forgets everything that is held.
func (b *book) clear() {
	for k := range b.leases {
		b.end(k)
	}
}
