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
