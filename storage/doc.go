// Package storage keeps what a node must not forget, in two ordered stores:
//
//   - Log: the raft logs, hard states and replica records of all groups, the node's
//     identity and its boot counter. Every commit that matters is synced. A payload is
//     written here once and stays here; the state only refers to it.
//   - State: what Apply has computed. It has no write-ahead log of its own: the raft log
//     is that. A batch carries its applied index with its effects, so that after a crash
//     the state is some earlier, whole state, from which the log is replayed.
//
// What the caller must do before what:
//
//  1. LockDir, before anything in the data folder is opened.
//  2. An entry is acknowledged only after the LogBatch with it was committed with sync.
//  3. The log is truncated only up to an index that State.Durable shows as applied (and
//     spilled): State.Flush, read through Durable, then LogBatch.Truncate.
//  4. An error that is ErrSync, and whatever LogConfig.Fatal or StateConfig.Fatal is called
//     with, ends the process. The store refuses everything from then on: after a failed
//     fsync nobody knows what is on disk, and a second one that succeeds proves nothing.
//
// The state stands on KV, the little that it needs of an ordered map, and the log on a part of that,
// LogKV. Pebble is a KV, segment files are a LogKV, storage/memstore is both for the simulator;
// storage/storagetest holds them to the same behaviour. Byte layouts are in docs/storage-format.md.
package storage
