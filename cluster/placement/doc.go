// Package placement decides which node holds which replica. [Next] is pure: the
// members and the map as meta has them, and what the caller knows of their
// health, in; the next map out. It is called by the leader of meta, again and
// again; each result is one step, proposed as a meta.SetMap over the generation
// that it was computed from.
//
// # What it wants
//
// A partition has as many copies as replication says, or as there are nodes.
// Voters are 1, 3 or 5 of them, the most that is; what is over is a learner. So
// two nodes have a voter and a learner, and the voter stays where it was:
// closing the second node does not stop the first.
//
// Nodes are ranked for each partition by rendezvous hashing: a node that comes
// takes its share from all others, and nothing else moves; one that goes
// leaves its share to all. Three things bend the ranking: zones that have fewer
// copies of the partition come first; a node that has one replica more than an
// even share is passed over while another one of its zone has room; and who
// votes, where not all do, is who did before, the oldest first.
//
// Meta has a learner on every node, and up to five voters among them,
// whatever the replication.
//
// # What it never does
//
// Voters get fewer only because somebody asked: by draining or removing nodes,
// or by a lower replication. A node that fails, or that the caller gives up as
// lost, is replaced where another node can take its place, and kept in the map
// where none can. A node that drains, or was removed, was asked to go: where two
// of three stay, they hold a voter and a learner, as a new cluster of two would.
// It keeps only what the nodes that stay cannot take because they are lost, or
// because there are none. Blocked says so.
//
// # How fast
//
// A group is moving from the change of its wish until its leader has reported
// that it is done. At most MaxMoves groups move at a time; what is urgent
// (replicas on lost and removed nodes) goes first. A group that moves is left
// alone, unless a node that it counts on is lost or removed meanwhile, or what
// it should have now is there already: the move is taken back then.
package placement
