package replica

import (
	pb "go.etcd.io/raft/v3/raftpb"
)

// judge has a replica that has no vote any more judge a candidate by what is
// committed, and no longer by all that it has in its own log.
//
// Who was voted out and knows it may have a longer log than every voter: a leader
// sends entries before it has them on disk itself. If that leader crashes, the
// voters who are left may know no more than that the change is under way; then they
// need a vote of those who went. By raft's rule these refuse it for ever, since
// their logs are longer, and they never lead themselves.
//
// What is in such a log behind its last change of configuration, y, and not known
// to be committed, is not needed there. Nothing was committed by its acknowledgement
// alone:
//
//   - Who counts an entry behind y has y in its log. So it knows that x, the change
//     before y, is committed: y was proposed after x was applied, and came with a
//     commit index that says so. It counts as x or y says, never as before x.
//   - As y says, this replica does not count.
//   - As x says: a vote is taken away through a joint configuration only (x enters
//     it, y leaves it), in which a majority of the voters who stay is needed, too.
//   - A change behind y that gives this replica a vote again lies before anything
//     for which its acknowledgement counts. So there must be no change in its log
//     that it has not applied.
//
// The candidate has all that this replica knows to be committed, y among it. So it
// counts votes as x or y says, or a later change; each time it needs a majority of
// those who vote after it, who judge it by their logs.
func (r *Replica) judge(m *pb.Message) {
	if t := m.GetType(); t != pb.MsgVote && t != pb.MsgPreVote || r.conf.Empty() || r.conf.Votes(r.cfg.ID) {
		return
	}
	s := r.rn.BasicStatus()
	if r.rn.HasReady() || s.Applied != s.GetCommit() || !r.covers(m, s.GetCommit()) || r.covers(m, r.log.written) {
		return // HasReady: there may be entries that the log does not show yet
	}
	last, err := r.log.Term(r.log.written)
	if err != nil || r.mayChange(s.Applied+1) {
		return
	}
	m.LogTerm, m.Index = &last, new(r.log.written)
}

// covers says that a candidate has all entries up to index, if they are committed.
func (r *Replica) covers(m *pb.Message, index uint64) bool {
	term, err := r.log.Term(index)
	return err == nil && (m.GetLogTerm() > term || m.GetLogTerm() == term && m.GetIndex() >= index)
}

// mayChange says that the log has a change of configuration from an index on, or
// cannot be read.
func (r *Replica) mayChange(from uint64) bool {
	for from <= r.log.written {
		ents, err := r.log.Entries(from, r.log.written+1, r.cfg.MaxMessageBytes)
		if err != nil || len(ents) == 0 {
			return true
		}
		for _, e := range ents {
			if e.GetType() != pb.EntryNormal {
				return true
			}
		}
		from += uint64(len(ents))
	}
	return false
}
