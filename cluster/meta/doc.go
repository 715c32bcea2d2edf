// Package meta is the meta group: the small replicated state of the cluster
// itself. It holds the cluster's id and name, the number of partitions and the
// hash seed, the nodes with their boot counters, the replicas of all groups,
// the epochs of named producers, and the consumer groups.
//
// [Apply] is the deterministic core: a view and a command in, the next view,
// the records to store and a result out. [Store] is the shell around it: a
// cluster.StateMachine over storage.State. [Calls] proposes commands and waits
// for their results.
//
// # Records in the state
//
// All keys of meta begin with ff ff, which as a partition number is never
// used, then comes the table. Integers are big endian, strings and bytes carry
// a length (u8 for names, u32 for settings). Every value begins with a version,
// which is 1.
//
//	table  key after it      value after the version
//	    1                    applied index u64
//	    2                    cluster: id 16, name, partitions u16, hash seed u64,
//	                         feature level u32, next replica u64, next group u32,
//	                         producers u32
//	    3  node id 16        node: name, boot u64, life u64
//	    4  replica u64       replica: group u32, node id 16
//	    5  producer name     epoch u64
//	    6  group id u32      group: name, version u32, settings
//
// # Commands
//
// An entry is an envelope, whose kind says which command it is, and the
// command's body. Every body begins with a version, which is 1.
//
//	kind  command       body after the version
//	   1  init          cluster id 16, name, partitions u16, hash seed u64,
//	                    feature level u32, node id 16, node name, boot u64, life u64
//	   2  start node    node id 16, node name, boot u64, life u64
//	   3  open producer name
//	   4  ensure group  name, settings
//
// A kind or a version that is not known stops the replica: it is never
// skipped. The settings of a consumer group are opaque here; package
// actors/repository owns their layout.
package meta
