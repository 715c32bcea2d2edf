// Package peers keeps a node's gRPC connections to the other nodes of its
// cluster: to their peer ports, beside raft's own streams.
package peers
