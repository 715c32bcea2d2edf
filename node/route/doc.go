// Package route lets any node take anything: it stands between node/api and
// actors, and does what the API asks on the nodes that lead the partitions
// concerned.
//
// # What is forwarded
//
// Packets go to their partition's leader over one stream for each pair of nodes,
// in the bytes in which they came. Calls that name repositories go to these
// repositories' leaders. A worker's session keeps a sub-session on each leading
// node, and owns the credit; a sub-session has none of its own: it is asked for
// packets, hands out what is ready, and gives the rest of the ask back.
//
// # One hop
//
// What is forwarded arrives at services that only know their own node (see
// Router.Register), so that a wrong guess comes back as a refusal and never goes
// round. The router does not try again, and makes neither ids nor positions: who
// sent a packet does, under the same ones.
//
// # What a leader's change does
//
// Packets that are in flight to the former leader are answered by it; until they
// are, others of that partition are refused with a short delay, so that none
// overtakes them. What it does not answer within Config.Patience is of unknown
// outcome. A partition that nobody leads takes nothing, and says so at once.
package route
