package repository

import (
	"bytes"
	"encoding/binary"
)

// LaneInfo is a group's lane as the outside sees it.
type LaneInfo struct {
	Cursors [Ranks]Seq
	Token   Token
	Rank    Rank // of the lease
	Last    Seq  // of the lease
	LeaseMs uint32
	Session string
	Heads   [Ranks]HeadInfo
	Blocked Seq  // the dead letter that holds the lane; 0: none
	Parking bool // what waited when a packet failed for good becomes dead letters
	// Of the packet that is leased, holds the lane, or would be next: as in Heads.
	HeadSeq   Seq
	Attempts  uint32
	LastError string
	ReadyMs   int64 // log time; 0: now, or nothing waits
	Waiting   bool
}

// HeadInfo is what became of the first unsettled packet of a priority so far. Seq
// is 0 when it was never granted.
type HeadInfo struct {
	Seq       Seq
	Attempts  uint32
	LastError string
}

// Lease is an open grant.
type Lease struct {
	Group   GroupID
	Repo    string
	Token   Token
	LeaseMs uint32
	Session string
}

// Lane describes a group's lane of a repository.
func (m *Machine) Lane(id GroupID, repo []byte) (info LaneInfo, err error) {
	g := m.group(id)
	if g == nil {
		return info, nil
	}
	r, err := m.loadRepo(repo)
	if err != nil {
		return info, err
	}
	defer m.repos.trim()
	l, err := m.loadLane(g, r)
	if err != nil {
		return info, err
	}
	info = LaneInfo{Cursors: l.cursors, Blocked: l.blocked, Parking: l.parkTo != 0}
	at, err := m.places(g, r, l)
	next := l.rank
	for k := Rank(Ranks); k > 0; {
		k--
		if h := &l.heads[k]; h.seq != 0 {
			info.Heads[k] = HeadInfo{h.seq, h.attempts, h.failures.last()}
		}
		// The lowest place is the one that is ready first.
		if at[k] != 0 && !info.Waiting {
			info.Waiting, info.ReadyMs = true, at[k]
			if l.token == 0 {
				next = k
			}
		}
	}
	if info.ReadyMs <= m.logTimeMs {
		info.ReadyMs = 0
	} else if k, held := l.holder(m.logTimeMs); held {
		next = k
	}
	if l.token != 0 {
		info.Token, info.Rank, info.Last, info.LeaseMs, info.Session = l.token, l.rank, l.last, l.leaseMs, l.session
	}
	if info.Waiting || l.token != 0 {
		h := &info.Heads[next]
		info.HeadSeq, info.Attempts, info.LastError = h.Seq, h.Attempts, h.LastError
	}
	return info, err
}

// Runnable pages a group's runnable lanes in the order of service: by priority,
// then by the time since when they can run. after is the cursor of the page
// before, nil at first; next is nil at the end. Lanes that become ready only
// later are not listed: nextReady is when the first of them does, in log time.
func (m *Machine) Runnable(gid GroupID, after []byte, now int64, limit int, dst []LaneEvent) (lanes []LaneEvent, next []byte, nextReady int64, err error) {
	prefix := bytes.Clone(appendU32(m.key(tableRunnable), uint32(gid)))
	rank := Rank(0)
	if len(after) > 0 {
		rank = Rank(after[0])
	}
	lanes = dst
	for ; rank < Ranks; rank++ {
		lower := append(bytes.Clone(prefix), byte(rank))
		upper := append(bytes.Clone(prefix), byte(rank)+1)
		if len(after) > 0 && Rank(after[0]) == rank {
			lower = append(append(bytes.Clone(prefix), after...), 0)
		}
		full := false
		var failed error
		err := m.base.Scan(lower, upper, func(k, v []byte) bool {
			id := k[len(prefix):]
			name, ok := runnableRepo(id)
			if !ok {
				failed = &CorruptError{bytes.Clone(k), "runnable index"}
				return false
			}
			if at := int64(binary.BigEndian.Uint64(id[1:])); at > now {
				if nextReady == 0 || at < nextReady {
					nextReady = at
				}
				return false // the rest of this priority is later still
			}
			if len(lanes)-len(dst) == limit {
				full = true
				return false
			}
			if len(v) != 8 || int64(binary.BigEndian.Uint64(v)) > now { // else it is listed at a higher priority
				lanes = append(lanes, LaneEvent{Group: gid, Repo: string(name), Rank: rank})
			}
			next = append(next[:0], id...)
			return true
		})
		if failed != nil {
			err = failed
		}
		if err != nil || full {
			return lanes, next, nextReady, err
		}
	}
	return lanes, nil, nextReady, nil
}

// runnableRepo reads the repository from what follows the group in an index key.
func runnableRepo(id []byte) ([]byte, bool) {
	if len(id) < 9 {
		return nil, false
	}
	name, rest, ok := splitRepo(id[9:])
	return name, ok && len(rest) == 0
}

// Backfilling says whether lanes from before the group are still to be indexed.
func (m *Machine) Backfilling(id GroupID) bool {
	g := m.group(id)
	return g != nil && g.backfill != nil
}

// Leases visits the open grants. visit must not call m.
func (m *Machine) Leases(visit func(Lease) bool) error {
	prefix := bytes.Clone(m.key(tableLease))
	var failed error
	err := m.base.Scan(prefix, keyAfter(prefix), func(k, v []byte) bool {
		d := decoder{b: v}
		version := d.byte()
		x := Lease{Token: Token(d.uvarint()), LeaseMs: uint32(d.uvarint()), Session: string(d.bytes())}
		if d.err != nil || version != version1 || len(k) < 7 {
			failed = &CorruptError{bytes.Clone(k), "lease"}
			return false
		}
		x.Group = GroupID(binary.BigEndian.Uint32(k[3:]))
		name, _, ok := splitRepo(k[7:])
		if !ok {
			failed = &CorruptError{bytes.Clone(k), "lease key"}
			return false
		}
		x.Repo = string(name)
		return visit(x)
	})
	if failed != nil {
		return failed
	}
	return err
}

// OpenGrant fills res with the unsettled rest of an open lease, for the worker
// that comes back; res.Code is Empty when there is none.
func (m *Machine) OpenGrant(id GroupID, repo []byte, res *GrantResult) (session string, err error) {
	*res = GrantResult{Code: Empty}
	g := m.group(id)
	if g == nil {
		return "", nil
	}
	r, err := m.loadRepo(repo)
	if err != nil {
		return "", err
	}
	defer m.repos.trim()
	l, err := m.loadLane(g, r)
	if err != nil || l.token == 0 {
		return "", err
	}
	*res = GrantResult{Code: OK, Token: l.token, Rank: l.rank, Attempt: 1}
	list, err := m.mixed(g, r, l, l.rank, l.cursors[l.rank], l.last, maxLimit)
	if err != nil {
		return "", err
	}
	for i := range list {
		if list[i].item.seq <= l.last {
			res.Items = append(res.Items, list[i].granted())
		}
	}
	if h := &l.heads[l.rank]; len(res.Items) > 0 && res.Items[0].Seq == h.seq {
		res.Attempt = h.attempts
	}
	return l.session, nil
}
