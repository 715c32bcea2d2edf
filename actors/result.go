package actors

import (
	"context"
	"time"

	"github.com/waystation/waystation/actors/repository"
)

// ResultState is what became of a packet in a group.
type ResultState string

// The states.
const (
	ResultPending ResultState = "pending"
	ResultDone    ResultState = "done"
	ResultDead    ResultState = "dead"
)

// ResultQuery names a packet of a group, by its number, or by its id if Seq is 0.
type ResultQuery struct {
	Repo, Group string
	Seq         repository.Seq
	ID          string
	WaitMs      uint32 // for the result; 0: not at all
	// Empty has a packet that is done, and of which nothing is kept, answered so, and
	// not as NOT_FOUND.
	Empty bool
}

// PacketResult is what became of a packet in a group.
type PacketResult struct {
	Seq       repository.Seq
	State     ResultState
	Kept      bool // there is a result
	Result    []byte
	ExpiresMs int64 // log time at which it ends
	Reason    string
	Attempts  uint32
	LastError string
}

// groupPatience is how long who waits for a result waits for its group: its first
// worker may be about to make it.
const groupPatience = 5 * time.Second

// groupLook is how often the group is looked for meanwhile, in memory.
const groupLook = 50 * time.Millisecond

// Result returns what a worker of a group left with a packet. It blocks for a quorum
// round unless the result is there already, and for as long as the query says while the
// packet is not settled: then the state is pending. The result must not be changed.
func (d *DeliveryService) Result(ctx context.Context, q ResultQuery) (*PacketResult, error) {
	wait := time.Duration(q.WaitMs) * time.Millisecond
	switch {
	case q.Seq == 0 && q.ID == "":
		return nil, invalid("sequence", "is missing: give a sequence, or a packet_id")
	case wait > d.cfg.MaxWait:
		return nil, invalid("wait_ms", "must be at most 60,000")
	}
	if err := checkRepo(q.Repo); err != nil {
		return nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	g, err := d.patient(ctx, q.Group, min(wait, groupPatience))
	if err != nil {
		return nil, err
	}
	a := &resultCall{d: d, p: d.keeper(q.Repo).p, g: g, q: &q}
	return a.run(ctx, timer.C)
}

// patient returns a group that is there, or comes within patience.
func (d *DeliveryService) patient(ctx context.Context, name string, patience time.Duration) (*consumers, error) {
	for begun := time.Now(); ; {
		g, err := d.known(name)
		r, ok := err.(*Refusal) //nolint:errorlint // what known returns
		if err == nil || !ok || r.Code != CodeNotFound || time.Since(begun) >= patience {
			return g, err
		}
		select {
		case <-time.After(groupLook):
		case <-d.stopping:
			return nil, refusedStopping
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// resultCall is one call of Result.
type resultCall struct {
	d *DeliveryService
	p LanePartition
	g *consumers
	q *ResultQuery
}

// run looks, and waits for the packet's lane where there is nothing to see yet. What
// applied state says to be settled is, so only the rest asks a majority.
func (a *resultCall) run(ctx context.Context, over <-chan time.Time) (*PacketResult, error) {
	if x, _, err := a.look(); err == nil && x != nil && x.Kept {
		return x, nil
	}
	if err := barrier(ctx, a.p); err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		x, at, err := a.look()
		if err != nil {
			return nil, err
		}
		if x.State != ResultPending {
			return a.settled(x, first)
		}
		if a.q.WaitMs == 0 {
			return x, nil
		}
		w, err := a.p.Watch(a.g.id, a.q.Repo, at.Rank, at.Seq)
		if err != nil {
			return nil, err
		}
		// What was settled before the watch began is seen now.
		if x, _, err = a.look(); err == nil && x.State == ResultPending {
			err = a.sleep(ctx, w, over)
		}
		a.p.Unwatch(w)
		switch {
		case err == errOver: //nolint:errorlint // sleep's own
			return x, nil
		case err != nil:
			return nil, err
		}
	}
}

// settled is the answer about a packet that is: NOT_FOUND if it was done before the
// call and nothing is kept of it.
func (a *resultCall) settled(x *PacketResult, first bool) (*PacketResult, error) {
	if x.State == ResultDone && !x.Kept && first && !a.q.Empty {
		return nil, &Refusal{
			Code: CodeNotFound, Field: "sequence",
			Message: "the packet is done, and no result of it is kept: the worker left none, or its time to live has passed",
		}
	}
	return x, nil
}

var errOver = &Refusal{Code: CodeUnavailable, Message: "the wait is over"}

func (a *resultCall) sleep(ctx context.Context, w *Watch, over <-chan time.Time) error {
	select {
	case <-w.Done:
		if _, leads := a.p.Leading(); !leads {
			return refusedNotLeader
		}
		return nil
	case <-over:
		return errOver
	case <-a.d.stopping:
		return refusedStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look says how the packet stands, and where to wait for it while it is pending.
func (a *resultCall) look() (x *PacketResult, at repository.Standing, err error) {
	var kept repository.Result
	found := false
	err = a.p.View(func(m *repository.Machine) error {
		seq := a.q.Seq
		if seq == 0 {
			if seq, err = findPacket(m, a.q.Repo, a.q.ID); err != nil {
				return err
			}
		}
		if kept, found, err = m.ResultOf(a.g.id, bytesOf(a.q.Repo), seq); err != nil || found {
			return err
		}
		at, err = m.Standing(a.g.id, bytesOf(a.q.Repo), seq)
		return err
	})
	if err == nil && found {
		x, err = a.d.unpacked(&kept)
		return x, at, err
	}
	if err != nil {
		return nil, at, internal(err)
	}
	x, err = stands(&at)
	return x, at, err
}

func (d *DeliveryService) unpacked(kept *repository.Result) (*PacketResult, error) {
	data, err := d.packer.unpack(kept)
	if err != nil {
		return nil, internal(err)
	}
	return &PacketResult{Seq: kept.Seq, State: ResultDone, Kept: true, Result: data, ExpiresMs: kept.UntilMs}, nil
}

// stands is the answer about a packet of which no result is kept.
func stands(at *repository.Standing) (*PacketResult, error) {
	switch at.State {
	case repository.StateWaiting:
		return &PacketResult{Seq: at.Seq, State: ResultPending}, nil
	case repository.StateDone:
		return &PacketResult{Seq: at.Seq, State: ResultDone}, nil
	case repository.StateDead:
		return &PacketResult{
			Seq: at.Seq, State: ResultDead, Reason: at.Dead.Reason.String(), Attempts: at.Dead.Attempts, LastError: at.Dead.Error(),
		}, nil
	}
	return nil, &Refusal{Code: CodeNotFound, Field: "sequence", Message: "the repository has no packet of this number"}
}

// findPacket is the number of the packet that had an id.
func findPacket(m *repository.Machine, repo, id string) (repository.Seq, error) {
	seq, _, ok, err := m.FindID(bytesOf(repo), bytesOf(id))
	if err == nil && !ok {
		err = &Refusal{Code: CodeNotFound, Field: "packet_id", Message: "no packet of this repository had this id within the dedup window"}
	}
	return seq, err
}
