// Package workload makes the packets that a load test sends: real code from a
// folder, or incompressible bytes. From one seed the order and the contents are
// the same each time.
package workload

// MaxContent is the relay's limit for one packet's content, in bytes.
const MaxContent = 8 << 20

// Item is one packet to be sent.
type Item struct {
	// Repo is an index into Stream.Repos.
	Repo int
	// Path of the file that is replayed; empty for synthetic packets.
	Path string
	// Content is either buf of Next, or shared and not to be changed: see Own.
	Content []byte
	// Own is set when Content is the caller's buffer, in which a Mark has room.
	Own bool
}

// Stream gives packets without an end. It is used by one goroutine.
type Stream interface {
	// Repos are the names of the repositories, without a run's prefix.
	Repos() []string
	// Next returns the next packet. buf may be used for its content: it is empty,
	// or the content of an earlier packet that was the caller's Own.
	Next(buf []byte) (Item, error)
}
