// Package lease is the deterministic core of delivery on a partition's leader:
// what can be decided of leases without a goroutine, a clock, a lock or IO.
//
//   - Batch holds one lease's packets: which were handed out, and which
//     settlements wait until they form a prefix. A lease settles a prefix and at
//     most one failure, which ends it; its Steps are what to propose.
//   - Credit counts the packets that one worker holds.
//   - Deadlines says which leases ran out, on a monotonic clock given as argument.
//   - Window is a bounded page of the replicated index of runnable lanes.
//   - Plan shares what a session wants among partitions, in turn.
//
// Nothing here decides for the cluster: Apply alone does. A lost Batch, Window
// or Credit costs a redelivery or a wasted proposal, never a packet.
//
// What the caller must do: propose each Step that Batch.Next returns, one at a
// time, and report its outcome by Applied or Failed before it asks for the next;
// report the outcome of each lane that it took from a Window; guard each value by
// a lock of its own.
package lease
