// Package api is the node's public interface: gRPC, and the same as HTTP/JSON.
//
// Both speak to the same few interfaces (see backend.go), so that a call means
// the same whichever way it came. A packet's bytes are walked where the transport
// left them and go on as they are; what comes over HTTP is encoded once, into the
// form that a gRPC client would have sent.
//
// Nothing here decides anything about packets: it checks form, bounds what a
// client can make the node hold, and maps errors, in errors.go alone.
package api
