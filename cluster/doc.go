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
// logs short.
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
// # What ends the process
//
// A failed sync, or one that takes longer than Config.SyncLimit: a leader
// whose disk hangs would keep its leadership, since its heartbeats go on.
// Config.Fatal is called once; nothing is acknowledged afterwards. Damage and
// panics in one group stop that replica alone: it says so in its [Status] and
// in the log, and never skips an entry.
package cluster
