// Package repository is the replicated core: the one place where sequence numbers,
// dedup, grants, settlements, attempts, dead letters and expiry are decided.
//
// # States
//
// A [Machine] is one partition. Per repository it has a record (head, what is
// retained by priority), runs (one record per priority and entry: references to
// the packets' bytes in the raft log, never the bytes), and a producer record for
// each position. Per group it has lanes (cursors, the lease, the head's failures),
// an index of the lanes that can run, an index of the open leases, and dead
// letters. keys.go lays the keys out, docs/storage-format.md the values.
//
// # Inputs and outputs
//
// [Machine.Apply] takes a committed entry, which [EntryBuilder] built, and answers
// with [Effects]: the writes, as data, and the results for whoever waits. It reads
// its state and its command and nothing else: no clock (log time comes in with the
// entry), no randomness (jitter comes from the lease's token), no flag (settings
// come as commands). Given the same log, every replica writes the same bytes.
//
// # What the caller must do
//
// Apply the entries of one raft group in order; write the effects of each in one
// atomic batch, visible to the [Reader], before the next call; never skip an entry
// that answers an error: stop the replica. Guard the Machine with a lock: queries
// fill the same cache as Apply. Before the raft log is truncated through an index,
// call [Machine.Spill] for every entry up to it, and make that durable first.
//
// # What was rejected
//
// A view of typed objects that Apply copies on write: it cost four allocations a
// packet. Objects are cached and changed in place, and every change is at once an
// effect, so that the cache can be dropped between any two entries. Runs keyed by
// their first number, as the first design had them, need a backward seek to find a
// run that is half settled; keyed by the last, one forward seek finds it, or the
// next one (ADR 0007).
package repository
