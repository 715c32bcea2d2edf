// Package gossip tells which nodes are there. It is SWIM over UDP and TCP, by
// hashicorp/memberlist, which no other package knows.
//
// What it says is a hint and decides nothing: a member that is missing here may
// be well, and one that is listed may be gone. Who belongs to the cluster stands
// in meta; what a replica is, in its group's configuration.
//
// A member's name is its node id, so that a node which comes back under another
// address is the same member, and a copied data folder is seen as two processes
// under one name. The configured cluster name is the label of every packet and
// stream: members of two names never hear each other. A cluster's id is part of
// what a member tells of itself; comparing it is for whoever reads it.
//
// # Joining
//
// memberlist answers another label, another key and a port that is not its own
// with the same silence or with texts that name none of them. So a join asks
// first, in one round trip on the same port, what is there: cluster name, node,
// and whether the keys fit (fingerprints under a nonce of the asker). The answer
// makes the error's text; it is no authentication, and needs none.
//
// One loop, owned by the package, goes on joining: until another member is seen,
// again when this one is alone, and now and then towards members that failed, so
// that two halves find each other however long they were apart.
package gossip
