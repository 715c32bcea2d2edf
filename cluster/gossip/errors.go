package gossip

import "errors"

var (
	// ErrNoKey says that gossip was to listen beyond loopback without a key.
	ErrNoKey = errors.New("gossip beyond loopback needs a key")
	// ErrKey says that the keys of the two sides don't fit.
	ErrKey = errors.New("gossip keys differ")
	// ErrLabel says that the other side belongs to another cluster name.
	ErrLabel = errors.New("another cluster name")
	// ErrForeign says that something else than a Waystation gossip port answered.
	ErrForeign = errors.New("not a gossip port of Waystation")
	// ErrSelf says that every address to join is this node itself.
	ErrSelf = errors.New("the address is this node itself")
	// ErrCopied says that another running process has this node's id: its data
	// folder is a copy of this one, or the other way round.
	ErrCopied = errors.New("another process runs with a copy of this data folder")
	// ErrMeta says that what a node tells of itself is too large or unreadable.
	ErrMeta = errors.New("bad member record")
	// ErrStopped says that Stop was called.
	ErrStopped = errors.New("gossip stopped")
)
