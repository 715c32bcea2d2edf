// Package discovery says how a first node comes to be, and how the others find
// it. It makes no cluster itself: it tells the caller to make one, to join one,
// or why neither is right.
//
// # One machine
//
// Nodes of one user on one machine meet in a folder that they all know (Home).
// Each running node has an entry there with its addresses. Being the first node
// of a cluster name is an exclusive lock in that folder, held until the entry of
// the new cluster is written: who waits for it finds the entry, and joins. The
// lock ends with its process, however that ends. Entries whose process is gone,
// or whose gossip port does not answer, are passed over and cleared away.
//
// # Several machines
//
// With --join there is nothing to decide. With --bootstrap-expect N, N nodes
// that know each other by gossip make one cluster: every one of them promises
// once, on disk, to one cluster id and one list of members, before anything
// exists. Package expect decides; SavePromise is the disk.
//
// # Refusals
//
// CheckJoin says what is wrong with a cluster that a node is told to join, with
// the flag to change.
package discovery
