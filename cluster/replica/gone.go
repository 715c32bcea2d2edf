package replica

import (
	"slices"

	"go.etcd.io/raft/v3"

	"github.com/waystation/waystation/storage"
)

// heir is a voter whose leader is gone, and who is to take its place before an
// election timeout has passed.
type heir struct {
	gone       uint64
	since      uint64 // ticks
	rank, most uint64 // which of how many voters are left it is
}

// Gone says that the process of replica id has ended, and not only that nobody
// hears it. If it led, this replica forgets it, so that it gives its vote at once,
// and campaigns within a few ticks, if it votes. The voters that are left do that in
// turn: one may lack what was committed, or be told later than the others. Nothing
// is lost if it was a mistake: who still hears a leader gives no vote, and the
// leader's next heartbeat is believed.
func (r *Replica) Gone(id storage.ReplicaID) {
	if id == 0 || id == r.cfg.ID || r.change.Leader != id {
		return
	}
	_ = r.rn.ForgetLeader() // errs only where reads rely on leases
	left := slices.DeleteFunc(slices.Clone(r.conf.Voters), func(v storage.ReplicaID) bool { return v == id })
	slices.Sort(left)
	at := slices.Index(left, r.cfg.ID)
	if at < 0 {
		return
	}
	// Whose turn it is first differs from group to group, so that one node does not
	// get all that another one led.
	n := uint64(len(left))
	r.heir = &heir{gone: uint64(id), since: r.ticks, rank: (uint64(at) + uint64(r.cfg.Group)) % n, most: n}
}

// echo is for how many ticks the last words of who is gone may still come in.
const echo = 2

// inherit campaigns when it is this replica's turn: each has two ticks, again and
// again, until there is a leader, or an election timeout has passed.
func (r *Replica) inherit() {
	h := r.heir
	if h == nil {
		return
	}
	s, waited := r.rn.BasicStatus(), r.ticks-h.since
	if s.Lead == h.gone && waited <= echo {
		_ = r.rn.ForgetLeader()
		s = r.rn.BasicStatus()
	}
	switch {
	case s.Lead != 0 || waited > uint64(r.cfg.ElectionTicks):
		r.heir = nil
	case s.RaftState == raft.StateCandidate: // it has the promise of votes, and waits for them
	case waited%(2*h.most) == 2*h.rank+1:
		_ = r.rn.Campaign() // it cannot as long as a change of voters is not applied
	}
}
