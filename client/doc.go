// Package client is the Go library of Waystation: it sends code packets to a
// relay and works them off.
//
// # Sending
//
// A packet belongs to a repository, and a repository is an ordered lane of its
// own. Publish sends one packet and waits for its receipt; PublishAsync keeps
// many in flight. Either way every packet carries a producer position (see
// PROTOCOL 2.3), so that what one client sends to one repository gets its
// numbers in the order of the calls, each packet once: across pipelining,
// retries, lost connections and a restarted node. Calls made at the same time
// from several goroutines have no order among themselves.
//
// A receipt means that the packet is synced to disk on a majority of the
// replicas. Until then the client keeps the packet and resends it.
//
// # Which node
//
// Any node takes everything. Nodes tell who leads what on the stream that packets
// go over, and the client keeps a stream to each leader and sends a repository's
// packets there: a hop less, and nobody to wait for when another node goes away.
// When a repository's leader changes, the client waits for the answers to what is
// on its way before it sends on elsewhere, but for no longer than 150 ms. A node
// is used only once it has said that it belongs to the cluster. Where leaders
// cannot be reached, or nodes are too old to tell, packets go to a node that can
// be, and it passes them on.
//
// Give Dial the addresses of several nodes: one will do, but it may be the one
// that is away just then. Behind a NAT give all of them, as those that nodes know
// of themselves are of no use there.
//
// # Working
//
// Work calls a Handler for each packet of a consumer group. Packets of one
// repository come one after another in order, different repositories at the
// same time. A handler that returns nil settles its packet as done, Dead(err)
// moves it to the dead letters, any other error or a panic has it tried again
// after a back-off. Leases are renewed while handlers run; when a lease can no
// longer be held, the handler's context ends with the cause ErrLeaseLost.
//
// A handler may run twice for one packet (its settlement may be lost with the
// connection or the process). What it writes to other systems should carry
// Delivery.LeaseToken, which grows with each grant of a repository: a paused
// worker that outlived its lease is then refused there.
//
// # Errors
//
// What the relay refuses is an *Error with a code; errors.As finds it. What the
// caller's context ends is an error that wraps the context's.
package client
