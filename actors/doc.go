// Package actors is the relay on one node: repositories as actors in front of
// the replicated core, and the sessions that hand packets to workers.
//
// A packet's way in: Relay.Offer groups a frame by repository and posts each
// group to the repository's actor, whose mailbox refuses at once when it is
// full. The actor's filter (package intake) answers what is known, attaches
// resends to what is in flight, and queues the rest with its Partition. The
// partition has one entry in flight; what gathers meanwhile is the next entry.
// When an entry commits, Apply (package repository) has decided each packet's
// outcome, and the partition answers the sinks.
//
// Who owns what: the engine's apply loop calls Apply and Spill; one goroutine per
// partition builds entries and hands out outcomes; a repository's actor owns its
// filter. Machine is guarded by Partition.View. Nothing here knows raft or gRPC:
// replication is the Proposer, answers go to a Sink.
//
// A repository actor is a soft cache over the applied state: killing one at any
// moment loses nothing, because whoever waits for a packet is kept by the entry
// that carries it, not by the actor.
package actors
