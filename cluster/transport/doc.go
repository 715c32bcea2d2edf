// Package transport carries raft messages, snapshots and clock readings between
// the nodes of a cluster, over TCP connections of its own, and hands every
// gRPC connection that comes to the same port to a gRPC server.
//
// # Connections
//
//	A ── raft lane, dialled by A ─────────► B    messages, pings; B answers pongs
//	A ◄───────── raft lane, dialled by B ── B
//	A ── snapshot lane, one a snapshot ───► B    header, chunks, end; B answers
//
// A connection carries messages in one direction, from who dialled it. What
// goes back on it is small and belongs to the connection: the answer to the
// hello, pongs, the outcome of a snapshot. So a peer that is alive and one that
// only keeps its sockets open are told apart from either end: who dialled
// misses the pongs, who accepted misses the pings. A snapshot has a connection
// of its own, so that no raft message ever waits for one.
//
// # Bytes
//
// Both sides begin with a hello, see [Hello]; its layout does not change with
// the protocol version, so that incompatible builds can still say so. Frames
// follow, see frame.go: length, kind, CRC32C, body. A frame that is damaged
// closes its connection. A raft message is in protobuf's own encoding, written
// and read by hand (encode.go, decode.go): in four allocations a message where
// protobuf makes 12 to 91, and the payload of a large entry goes from raft's
// memory to the socket without a copy, and from the socket into the one block
// that its message lives in.
//
// # Order and loss
//
// Append messages of a group to a peer arrive in the order in which Send got
// them, or not at all. Everything else (heartbeats, votes, answers) is small,
// has a queue of its own, and goes first, so that it may overtake an append:
// raft does not mind, and a leader with 64 MiB under way would otherwise lose
// its followers. What is over a limit, or waits for a peer that cannot be
// reached, is dropped and counted: raft sends it again.
//
// # Coalescing
//
// One goroutine per peer takes everything that waits into one frame. A plain
// heartbeat, or its answer, does not wake it: it waits for [Transport.Flush], so
// that those of all groups share a frame; whatever is urgent goes immediately
// and takes them along, and so does a ping.
//
// # Pulses
//
// A ping carries the sender's clock and how much room its disk has, its pong the
// receiver's. From these each
// node knows its peers' clocks, measured against its own monotonic clock, so
// that a jump of its own wall clock changes nothing: see [Transport.Clock].
package transport
