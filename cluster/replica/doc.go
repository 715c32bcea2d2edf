// Package replica is the deterministic core of one raft replica: it holds the
// state machine of go.etcd.io/raft and says, as data, what has to be written,
// applied, sent and cut off. It has no goroutine, no clock, no randomness of
// its own and does no IO except through [LogReader]; package cluster carries
// its jobs out, the simulator does the same from one goroutine and one seed.
//
// # Inputs
//
// [Replica.Propose], [Replica.ProposeConf], [Replica.ReadIndex], [Replica.Step],
// [Replica.StepSnapshot], [Replica.Tick], [Replica.Campaign],
// [Replica.TransferLeader] and [Replica.Truncate] feed the replica.
// [Replica.Appended], [Replica.Applied] and [Replica.ReportSnapshot] tell it that
// a job is done. None of them may be called
// while another one runs: the caller gives each replica one owner.
//
// # Outputs
//
// [Replica.Ready] returns the next [Jobs], until it has none. Of one replica
//
//   - append jobs must be written in the order in which they were given out,
//     and [Replica.Appended] be called in that order, after the job, and all
//     those before it, are on disk (synced if the job asks for it);
//   - apply jobs must be applied in their order and answered with
//     [Replica.Applied], after which the effects need not be durable;
//   - messages may be lost, doubled and reordered;
//   - a truncation must be written after all append jobs given out before it.
//
// Append and apply jobs run beside each other: that is raft's asynchronous
// storage mode. An entry is applied only once it is in this replica's own
// synced log, because raft reads what it hands out for applying from Storage
// alone, never from what is still being written. So that this is not a disk
// read for each entry, the replica puts what it hands out for writing into a
// [Cache], which is bounded by bytes.
//
// # The stale tail
//
// A new leader may overwrite entries that were never committed. What is on
// disk beyond the overwritten index must go in the same batch, or an entry of
// an old term would be found behind the new ones after a crash. The tail is
// counted from the last index that was ever handed out for writing, not from
// the last one that was confirmed: both appends can be in one batch.
//
// # Commit indexes on disk
//
// A ready that changes nothing but the commit index is not written on its own:
// the index travels with the next append. After a crash the commit index may
// therefore be far behind the applied one; [Reconcile] raises it.
//
// # Reads
//
// With a single voter raft answers ReadIndex from its commit index at once,
// which after a restart may be behind what an earlier life acknowledged. The
// replica holds reads back until an entry of its own term is committed.
//
// # Members
//
// [Conf] says which replicas a group has. It is part of the state: whoever
// applies an entry for which [IsConfChange] holds stores what [Conf.Next] makes
// of it together with the applied index, and only then calls [Replica.Applied],
// upon which raft switches. Both come from one pure function, so that a restart
// between the two finds the same configuration. A change that makes no sense
// changes nothing, on every replica alike.
//
// A vote is taken away through a joint configuration, whose leaving is known to
// those who go as soon as to those who stay, or sooner: the leader may crash before
// it has that on its own disk. Then those who stay need the votes of those who went.
// So these give them (judge), and are deleted, and anything else is changed, only
// after it is known on the disks of a majority of those who stay (Status.Opened).
//
// # Truncation
//
// A leader keeps what any other replica lacks. A follower cannot know that, and
// might keep everything, or next to nothing: the one fills its disk, the other
// makes every election cost a snapshot for each replica that is a moment behind.
// So the leader's bound travels in its heartbeats (in their index, which raft
// does not use), and all replicas cut at about the same place. What a follower
// was told only decides who will need a snapshot: it never cuts more than its
// own caller vouches for. Whoever is away for too long loses its claim: what
// may be held for it is the caller's floor.
//
// # Snapshots
//
// Raft hands out a message with metadata only ([Jobs].Snapshots); the caller
// sends its newest state behind it and answers with [Replica.ReportSnapshot].
// The receiver stages all of the data, then hands the message to
// [Replica.StepSnapshot], and installs only what comes out as [AppendJob].Install,
// in the order of [InstallSteps]. A start after a crash in between redoes the
// last step or drops it all ([Start]).
package replica
