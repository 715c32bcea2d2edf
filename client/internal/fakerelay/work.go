package fakerelay

import (
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// lane is what a group has still to do in a repository.
type lane struct {
	settled  map[uint64]bool // done or dead
	attempts map[uint64]uint32
	token    uint64 // of the open grant; 0: none
	grant    []uint64
	holder   *session
	until    time.Time
	last     settled
}

type settled struct {
	sequence, token uint64
	outcome         waystationv1.Outcome
}

// session is a worker by its name; it outlives its streams.
type session struct {
	group    string
	credit   int
	held     int
	batch    int
	draining bool
}

func laneKey(group, repo string) string { return group + "\x00" + repo }

// Work grants and takes settlements.
func (r *Relay) Work(s grpc.BidiStreamingServer[waystationv1.WorkRequest, waystationv1.WorkResponse]) error {
	if r.OnOpen != nil {
		if err := r.OnOpen("Work"); err != nil {
			return err
		}
	}
	cut := r.cutting()
	first, err := s.Recv()
	if err != nil {
		return err
	}
	se, again := r.open(first.GetOpen())
	if err := s.Send(&waystationv1.WorkResponse{Ready: true, Deliveries: again}); err != nil {
		return err
	}
	requests, failed := received(s.Context(), s.Recv)
	requested := first
	for {
		resp, next, changed := r.turn(se, requested)
		if resp != nil {
			if err := s.Send(resp); err != nil {
				return err
			}
		}
		requested = nil
		timer := time.NewTimer(next)
		select {
		case requested = <-requests:
		case <-changed:
		case <-timer.C:
		case err := <-failed:
			timer.Stop()
			if errors.Is(err, io.EOF) {
				r.release(se)
				return nil
			}
			return err
		case <-cut:
			timer.Stop()
			return errCut
		}
		timer.Stop()
	}
}

// open finds the session of a name, and what it held.
func (r *Relay) open(o *waystationv1.WorkOpen) (*session, []*waystationv1.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = o
	key := o.GetGroup() + "\x00" + o.GetWorker()
	se := r.sessions[key]
	if se == nil {
		se = &session{group: o.GetGroup()}
		r.sessions[key] = se
	}
	se.credit, se.draining, se.batch = int(o.GetCredit()), false, r.MaxBatch
	if n := int(o.GetMaxBatch()); n > 0 {
		se.batch = min(se.batch, n)
	}
	var again []*waystationv1.Delivery
	for _, name := range slices.Sorted(maps.Keys(r.repos)) {
		if l := r.lanes[laneKey(se.group, name)]; l != nil && l.holder == se && l.token != 0 {
			for _, n := range l.grant {
				again = append(again, r.delivery(name, l, n, true))
			}
		}
	}
	return se, again
}

// release gives back what a session holds that ended in order.
func (r *Relay) release(se *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lanes {
		if l.holder == se {
			r.end(l)
		}
	}
	r.signal()
}

// turn takes a request and grants what can be granted.
func (r *Relay) turn(se *session, req *waystationv1.WorkRequest) (*waystationv1.WorkResponse, time.Duration, <-chan struct{}) {
	resp := &waystationv1.WorkResponse{}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := req.GetCredit(); c > 0 {
		se.credit = int(c)
	}
	se.draining = se.draining || req.GetDrain()
	for _, st := range req.GetSettlements() {
		resp.Settlements = append(resp.Settlements, &waystationv1.SettlementResult{
			RepoId: st.GetRepoId(), Sequence: st.GetSequence(), Error: r.settle(se, st),
		})
	}
	for _, ref := range req.GetRenewals() {
		resp.Renewals = append(resp.Renewals, &waystationv1.RenewResult{
			RepoId: ref.GetRepoId(), LeaseToken: ref.GetLeaseToken(), Error: r.renew(se, ref),
		})
	}
	next := r.expire()
	if !se.draining {
		resp.Deliveries = r.grant(se)
	}
	if len(resp.Deliveries)+len(resp.Settlements)+len(resp.Renewals) == 0 {
		resp = nil
	}
	return resp, next, r.changed
}

// expire takes leases back that ended, and returns when the next one does.
func (r *Relay) expire() time.Duration {
	next := time.Hour
	for _, l := range r.lanes {
		if l.token == 0 {
			continue
		}
		if left := time.Until(l.until); left > 0 {
			next = min(next, left)
			continue
		}
		r.end(l)
	}
	return next
}

func (r *Relay) end(l *lane) {
	if l.holder != nil {
		l.holder.held -= len(l.grant)
	}
	l.token, l.grant, l.holder = 0, nil, nil
}

func (r *Relay) grant(se *session) []*waystationv1.Delivery {
	var out []*waystationv1.Delivery
	for _, name := range slices.Sorted(maps.Keys(r.repos)) {
		key := laneKey(se.group, name)
		l := r.lanes[key]
		if l == nil {
			l = &lane{settled: make(map[uint64]bool), attempts: make(map[uint64]uint32)}
			r.lanes[key] = l
		}
		if l.token != 0 {
			continue
		}
		for _, s := range r.repos[name].stored {
			if se.held >= se.credit || len(l.grant) >= se.batch {
				break
			}
			if l.settled[s.Sequence] {
				continue
			}
			if len(l.grant) == 0 {
				r.token++
				l.token, l.holder, l.until = r.token, se, time.Now().Add(r.Lease)
				l.attempts[s.Sequence]++ // only the head is charged
			}
			l.grant = append(l.grant, s.Sequence)
			se.held++
			out = append(out, r.delivery(name, l, s.Sequence, false))
			if l.attempts[s.Sequence] > 1 {
				break // after a failure the batch is 1
			}
		}
	}
	return out
}

func (r *Relay) delivery(name string, l *lane, n uint64, again bool) *waystationv1.Delivery {
	d := &waystationv1.Delivery{
		Packet: r.repos[name].stored[n-1].Packet(), Sequence: n, Attempt: max(1, l.attempts[n]), LeaseToken: l.token,
		LeaseMs: uint32(r.Lease.Milliseconds()), LeaseExpiresAt: timestamppb.New(l.until),
		Redelivered: again, AcceptedAt: timestamppb.Now(),
	}
	if r.OnDelivery != nil {
		r.OnDelivery(d)
	}
	return d
}

func (r *Relay) settle(se *session, st *waystationv1.Settlement) *waystationv1.Error {
	if r.OnSettle != nil {
		if e := r.OnSettle(st); e != nil {
			return e
		}
	}
	l := r.lanes[laneKey(se.group, st.GetRepoId())]
	if l == nil {
		return &waystationv1.Error{Code: "STALE_LEASE", Message: "no such lane"}
	}
	if st.GetOutcome() == waystationv1.Outcome_DONE && l.settled[st.GetSequence()] || l.last == (settled{st.GetSequence(), st.GetLeaseToken(), st.GetOutcome()}) {
		return nil // the same settlement twice is fine
	}
	if l.token != st.GetLeaseToken() || time.Now().After(l.until) {
		return &waystationv1.Error{Code: "STALE_LEASE", Field: "lease_token", Message: "not the lease's token"}
	}
	if len(l.grant) == 0 || l.grant[0] != st.GetSequence() {
		return &waystationv1.Error{Code: "INVALID_ARGUMENT", Field: "sequence", Message: "out of order"}
	}
	r.settled = append(r.settled, st)
	l.last = settled{st.GetSequence(), st.GetLeaseToken(), st.GetOutcome()}
	if st.GetOutcome() == waystationv1.Outcome_RETRY {
		r.end(l) // the rest goes back uncharged
		return nil
	}
	l.settled[st.GetSequence()] = true
	l.grant = l.grant[1:]
	se.held--
	if len(l.grant) == 0 || st.GetOutcome() == waystationv1.Outcome_DEAD {
		r.end(l)
	}
	return nil
}

func (r *Relay) renew(se *session, ref *waystationv1.LeaseRef) *waystationv1.Error {
	if r.OnRenew != nil {
		if e := r.OnRenew(ref); e != nil {
			return e
		}
	}
	l := r.lanes[laneKey(se.group, ref.GetRepoId())]
	if l == nil || l.token != ref.GetLeaseToken() || time.Now().After(l.until) {
		return &waystationv1.Error{Code: "STALE_LEASE", Field: "lease_token", Message: "not the lease's token"}
	}
	r.renewals++
	l.until = time.Now().Add(r.Lease)
	return nil
}
