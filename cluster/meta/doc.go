// Package meta is the meta group: the small replicated state of the cluster
// itself. It holds the cluster's id and name, the number of partitions and the
// hash seed, the nodes with their boot counters, the map of all replicas, the
// epochs of named producers, the consumer groups, and a log of the operations.
//
// [Apply] is the deterministic core: a view and a command in, the next view,
// the records to store and a result out. [Store] is the shell around it: a
// cluster.StateMachine over storage.State. [Calls] has commands carried out, by
// this node if it leads the group and else by the one that does, and waits for
// their results.
//
// # The map
//
// The map is the wish: which replica of which group lies on which node, and
// whether it is to vote. What a group is in fact its own raft configuration
// says. The leader of each group compares the two and makes the steps (package
// mover); the leader of meta alone writes new maps (package placement), each
// only over the generation that it was computed from.
//
// A replica goes this way; every arrow is a command:
//
//	(none) -SetMap, JoinNode-> wanted -SetMap-> leaving -ReportGroup-> retired -ReplicaGone-> (none)
//	                           wanted <-SetMap- leaving
//	        wanted, leaving -ReplaceReplica-> broken -ReplicaGone-> erased -ReportGroup-> (none)
//	                                          broken -ReportGroup-> retired
//
// A wanted and a leaving one run; leaving ones may still be what makes up their
// group's majority, so that they are deleted only once the group's leader
// has reported a configuration without them. One that was quarantined is broken
// at once: it will never vote again, and its node starts its successor in its
// place. On a node that was removed nobody confirms a deletion; it is taken as
// done. Ids are never given out twice.
//
// A replica that is retired must never become a voter of its group again. A
// leader on an older view of the map, in which it is wanted, could do that
// while another one reports it out. So no leader changes its group before meta
// took its report of the wish's present version in its term, and meta refuses
// reports of any other version and of lower terms than it has seen: whoever
// reported a replica out has a configuration that contains all that earlier
// leaders changed, and later ones learn first that the replica is not wanted.
//
// # Records in the state
//
// All keys of meta begin with ff ff, which as a partition number is never
// used, then comes the table. Integers are big endian, strings and bytes carry
// a length (u8 for names, u32 for settings and texts), lists of replicas a
// count u16. Every value begins with a version, which is 1.
//
//	table  key after it      value after the version
//	    1                    applied index u64
//	    2                    cluster: id 16, name, partitions u16, hash seed u64,
//	                         feature level u32, next replica u64, next group u32,
//	                         producers u32, map generation u64
//	    3  node id 16        node: what it says of itself, state u8 (1 joining,
//	                         2 active, 3 draining, 4 removed), joined i64,
//	                         changed i64, both log time in ms
//	    4  replica u64       replica: group u32, node id 16, role u8 (1 learner,
//	                         2 voter), preferred leader u8, state u8 (1 wanted,
//	                         2 leaving, 3 broken, 4 erased, 5 retired)
//	    5  producer name     epoch u64
//	    6  group id u32      group: name, version u32, settings
//	    7  raft group u32    placement: version u64, and of the last report: term
//	                         u64, version u64, settled u8, voters
//	    8  number u64        operation: log time i64 in ms, text; the last 1,000
//	   15                    the group's replicas, a raftpb.ConfState; no version;
//	                         absent: they never changed
//
// What a node says of itself: name, boot u64, life u64; the gRPC, HTTP, peer and
// gossip addresses, zone, and program version, each as a name; the lowest and
// the highest feature level that it runs at, u32 each.
//
// # Commands
//
// An entry is an envelope, whose kind says which command it is, and the
// command's body. Every body begins with a version, which is 1.
//
//	kind  command         body after the version
//	   1  init            cluster id 16, name, partitions u16, hash seed u64,
//	                      feature level u32, node id 16, what the node says
//	   2  start node      node id 16, what the node says
//	   3  open producer   name
//	   4  ensure group    name, settings
//	   5  join node       node id 16, what the node says
//	   6  set node state  node id 16, state u8
//	   7  set map         generation u64, reason, groups u16, each: group u32,
//	                      replicas u16, each: replica u64 (0 new), node id 16,
//	                      role u8, preferred leader u8
//	   8  report group    group u32, version u64, term u64, joint u8, voters,
//	                      learners
//	   9  replica gone    group u32, replica u64
//	  10  replace replica group u32, replica u64, reason
//	  11  raise feature   level u32
//
// A kind or a version that is not known stops the replica: it is never
// skipped. The settings of a consumer group are opaque here; package
// actors/repository owns their layout. A result that travels to the node which
// asked is laid out as [Result] says; it is never stored.
package meta
