// Package member makes a node part of a cluster, and keeps it one: it finds the
// others, founds a cluster or joins one, runs the replicas that meta's map gives
// to this node, moves the replicas of the groups that it leads, and, where meta
// is led, draws the map.
//
// # In order
//
//  1. [Open] listens to the other nodes: gossip, and the peer port with raft's
//     streams and the peers' calls. Nothing is replicated yet.
//  2. [Member.Belong] says which cluster this node belongs to: the one that its
//     data folder remembers, one that it founds, or one that takes it in. What it
//     says is synced in the data folder before it returns.
//  3. The caller opens the engine on [Member.Transport], begins with the replica
//     of the meta group, and attaches it: [Member.Attach].
//  4. [Member.Run] does the rest until [Member.Stop]: it records the start, makes
//     and removes replicas as the map changes, and follows leaders.
package member
