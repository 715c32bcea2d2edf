package meta

import "slices"

// takeBack deals with a replica that is damaged and cannot be given up because the
// map wants it for a voter, which it was not when its group reported last. It may
// have become one since; or it never will, and the group waits for it for ever. So
// the map wants the reported voters again, and r as a learner: the group's leader
// reports under the new version who votes before it changes anything, and after
// that it is known whether r is needed.
func takeBack(v *View, r Replica, at At) (Outcome, bool) {
	p, _ := v.Placement(r.Group)
	voters := p.Voters[:max(0, len(p.Voters)-1+len(p.Voters)%2)]
	if r.State != ReplicaWanted || r.Role != Voter || len(voters) == 0 || slices.Contains(p.Voters, r.ID) {
		return Outcome{}, false
	}
	for _, id := range voters {
		if x, ok := v.Replica(r.Group, id); !ok || !x.State.Runs() {
			return Outcome{}, false
		}
	}
	ch := begin(v, at)
	for _, x := range v.GroupReplicas(r.Group) {
		next := x
		switch {
		case slices.Contains(voters, x.ID):
			next.Role, next.State = Voter, ReplicaWanted
		case x.State == ReplicaWanted:
			next.Role = Learner
		}
		next.Leader = next.ID == voters[0]
		if next != x {
			ch.putReplica(next)
		}
	}
	ch.next.Cluster.Generation++
	ch.wish(r.Group)
	ch.putCluster()
	ch.note("replica %d of group %d is damaged before it votes: voters %v are wanted again", r.ID, r.Group, voters)
	return ch.done(Result{}), true
}
