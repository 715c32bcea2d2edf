// Package cluster runs the raft groups of a node: it carries out what the
// deterministic cores in package replica ask for.
//
// # Who does what
//
//	Propose, ReadIndex ─► inbox of the group ─► raft worker ─┬─► log writer ─┐
//	                                  ▲                      ├─► apply loop ─┤
//	                                  │                      └─► transport   │
//	                                  └──────────── "is done" ◄──────────────┘
//
// A few raft workers share the groups; each group belongs to one of them, and
// only that one touches its core. One log writer takes all appends that wait,
// of all groups, into one batch with one sync: while it syncs, the next batch
// gathers, so that the load decides the batch size and no timer does. One
// apply loop hands committed entries to the groups' state machines. One ticker
// drives raft's clocks and watches the log writer. One truncator keeps the
// logs short. One sender sends snapshots.
//
// # What is promised
//
// A proposal's done function is called exactly once. A nil error means that
// the entry was synced on a majority and applied here. [ErrNotLeader] and
// [ErrDropped] mean that it was never proposed. [ErrUnknown] means that nobody
// can tell: the term or the leadership changed, or the engine ended, while it
// was in flight; the entry may still be applied later.
//
// A state machine is told that it leads only after the first entry of the new
// term is applied: by then everything that was ever acknowledged is.
//
// # Replicas that come and go
//
// Which replicas a group has is part of its state ([Engine.ProposeConf]). A new
// one ([Engine.JoinGroup]) has nothing and waits for a snapshot. A snapshot is
// the group's key range in the state at one turn of the apply loop, in which
// everything that the state refers to in the log was spilled before: so nothing
// else has to be sent, and the receiver's log begins behind it. The receiver
// stages it beside the state, and asks Config.Room for space as it comes; how
// large it will be, nobody knows before. It is installed by a goroutine of its
// own, in the steps that package replica gives; the log writer holds back what
// is to be written of that group, the other groups go on. One snapshot is sent
// and one received at a time. [Engine.RemoveGroup] buries a replica for good.
//
// # How long logs are
//
// Settled entries are cut soon, on every replica, and what is not settled when
// the log has grown long enough, after a spill. Neither takes what another
// replica lacks, except that this may hold no more than Config.HoldBytes of a
// group: then it needs a snapshot. Followers cut where their leader does.
//
// # What ends the process
//
// A failed sync, or one that takes longer than Config.SyncLimit: a leader
// whose disk hangs would keep its leadership, since its heartbeats go on. It
// hands its leaderships over before that, after Config.HandoverAfter.
// Config.Fatal is called once; nothing is acknowledged afterwards. Damage and
// panics in one group stop that replica alone: it says so in its [Status] and
// in the log, and never skips an entry. If its log or its state can no longer be
// relied on, it is quarantined ([ErrQuarantined], [Engine.Damaged]): that is synced,
// so that it does not come back after a restart; it is to be removed, and a new one
// to take its place.
package cluster
