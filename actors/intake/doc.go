// Package intake decides on the leader what becomes of a packet before it is
// proposed: Filter in front of the replicated core, Batcher behind it, Budget
// around both.
//
// It is deterministic: no goroutine, clock, lock, randomness or IO. Its callers
// own each value for themselves, or guard it.
//
// Filter, one per active repository. In: a packet's id and position, and the
// applied state to ask. Out: a Verdict. A positive answer from applied state is
// final (a receipt that was given once is given again); what is in flight under
// the same id or position gets the first one's outcome; a position behind a
// missing one is refused as a gap; the rest is proposed, and Apply alone decides.
// The caller must propose what it was told to propose in that order, and must
// give every Flight back to Resolve once, in that order again, when the outcome
// is known, or is known to be unknown. A Filter may be thrown away at any time:
// what it forgets costs a resend or an entry that Apply finds to be a duplicate.
//
// Batcher, one per partition. In: items in the queue of their Flow. Out: the next
// entry's items, by deficit round-robin over the flows, so that a repository is
// delayed by others by at most one entry.
//
// Budget, one per node. In: bytes that come and go. Out: whether there is room,
// and when to ask again.
package intake
