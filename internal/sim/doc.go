// Package sim is a simulator of whole clusters: tests only. Each run has its
// nodes, disks, network, clocks and clients in one goroutine and follows from
// one seed, so that whatever goes wrong can be made to go wrong again.
//
// A node is made of the real cores: replica.Replica around raft, the partition's
// repository.Machine, intake's Filter and Batcher, over storage.Log and
// storage.State on memstore, which knows what is durable and what is not. What
// the simulator replaces are the thin shells around them: goroutines, timers,
// sockets and disks become events, one at a time, in an order that the seed
// chooses. A choice is an op; a script is a list of ops, and can be run again
// without the seed that chose them.
//
// After each event the oracle checks what the promises say (P1 to P4) against
// what was committed; when the faults end, everything must get done.
package sim
