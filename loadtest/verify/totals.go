package verify

// Totals is the account of a run.
type Totals struct {
	// Sent = Acked + Rejected + Unknown, in distinct packets.
	Sent, Acked, Rejected, Unknown int64
	// Deduplicated counts receipts that are marked duplicate.
	Deduplicated int64
	// Delivered and Settled count distinct packets, Redelivered every further delivery.
	Delivered, Redelivered, Settled, Dead int64

	// Lost: acknowledged, and neither settled nor dead; without workers,
	// acknowledged and not found.
	Lost int64
	// Duplicated: packets with two numbers, and deliveries that began after the
	// acceptance of their packet's settlement was seen.
	Duplicated int64
	// Reordered: first deliveries that fall, and numbers of one producer that fall.
	Reordered int64
	// StaleAccepted: settlements with an old token that were taken.
	StaleAccepted int64

	// NotLinear: repositories whose history no order of the calls explains. Package
	// history finds them; Totals leaves it 0.
	NotLinear int64
	// TwoHolders: repositories that a worker was handed while another one's lease was
	// valid. Holders counts them; Totals leaves it 0.
	TwoHolders int64
	// Unmarked: receipts of resends that are not marked duplicate.
	Unmarked int64
	// Corrupt: packets that workers or readers got and nobody sent so.
	Corrupt int64
	// Unnumbered: receipts and deliveries without a possible number.
	Unnumbered int64
}

// Totals returns the account so far. With worked unset, packets are looked for
// among those that were read back, not among the settled ones.
func (v *Verifier) Totals(worked bool) Totals {
	var t Totals
	for i := range v.repos {
		p := &v.repos[i]
		p.mu.Lock()
		p.addTo(&t, worked)
		p.mu.Unlock()
	}
	return t
}

func (p *repo) addTo(t *Totals, worked bool) {
	t.Deduplicated += p.deduplicated
	t.Redelivered += p.redelivered
	t.Duplicated += p.duplicated
	t.Reordered += p.reordered
	t.StaleAccepted += p.stale
	t.Unmarked += p.unmarked
	t.Corrupt += p.corrupt
	t.Unnumbered += p.none
	t.Sent += int64(len(p.records))
	// All of a repository's packets come from one producer in the order of their
	// indexes: its numbers must rise with them.
	var highest uint64
	for i := range p.records {
		rec := &p.records[i]
		rec.addTo(t, worked)
		if !rec.is(markAcked) {
			continue
		}
		if number := rec.number(); number > highest {
			highest = number
		} else {
			t.Reordered++
		}
	}
}

func (r *record) addTo(t *Totals, worked bool) {
	switch {
	case r.is(markAcked):
		t.Acked++
		t.Lost += lost(r, worked)
	case r.is(markRejected):
		t.Rejected++
	default:
		t.Unknown++
	}
	t.Delivered += one(r.is(markDelivered))
	t.Settled += one(r.is(markSettled))
	t.Dead += one(r.is(markDead))
}

func lost(r *record, worked bool) int64 {
	if worked {
		return one(!r.is(markSettled | markDead))
	}
	return one(!r.is(markFound))
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Number is a packet's number as first seen by anybody, 0 when nobody saw one.
func (v *Verifier) Number(r int, index uint32) uint64 {
	p := &v.repos[r]
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(index) >= len(p.records) {
		return 0
	}
	return p.records[index].number()
}

// Missing is a packet that counts as lost.
type Missing struct {
	Repo   int
	Index  uint32
	Number uint64
	// Delivered says that a worker had it, though no settlement was accepted.
	Delivered bool
}

// Missing returns up to most of the packets that Totals counts as lost.
func (v *Verifier) Missing(worked bool, most int) (missing []Missing) {
	for r := range v.repos {
		p := &v.repos[r]
		p.mu.Lock()
		for i := range p.records {
			rec := &p.records[i]
			if len(missing) < most && rec.is(markAcked) && lost(rec, worked) > 0 {
				missing = append(missing, Missing{r, uint32(i), rec.number(), rec.is(markDelivered)})
			}
		}
		p.mu.Unlock()
		if len(missing) == most {
			break
		}
	}
	return missing
}

// Unsettled is how many of a repository's packets are acknowledged, and neither
// settled nor dead.
func (v *Verifier) Unsettled(r int) (n int) {
	p := &v.repos[r]
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.records {
		n += int(one(p.records[i].is(markAcked) && lost(&p.records[i], true) > 0))
	}
	return n
}
