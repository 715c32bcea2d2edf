package client

import (
	"time"
)

// Priority of a packet within its repository. Each overtakes only the lower
// ones; none breaks the order within itself.
type Priority uint8

// The values are those of the wire.
const (
	PriorityNormal Priority = 0
	PriorityHigh   Priority = 1
	PriorityLow    Priority = 2
)

// String returns normal, high or low.
func (p Priority) String() string {
	return nameOf([]string{"normal", "high", "low"}, int(p))
}

// ContentEncoding says how a packet's content is compressed. Neither the relay
// nor this package ever decodes it.
type ContentEncoding uint8

// The values are those of the wire.
const (
	EncodingIdentity ContentEncoding = 0
	EncodingGzip     ContentEncoding = 1
	EncodingZstd     ContentEncoding = 2
)

// String returns identity, gzip or zstd.
func (e ContentEncoding) String() string {
	return nameOf([]string{"identity", "gzip", "zstd"}, int(e))
}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}

// Packet is one change of one repository, as a sender makes it. Only RepoID is
// required.
type Packet struct {
	// RepoID is the ordering key: 1 to 512 bytes of UTF-8.
	RepoID string
	// Content is opaque: at most 8 MiB.
	Content []byte
	// Metadata has at most 64 pairs and 16 KiB.
	Metadata map[string]string
	// PacketID, at most 256 bytes of UTF-8, is deduplicated within the relay's
	// window, also between different senders and processes. Without it the
	// packet is deduplicated by this client's own position only.
	PacketID string
	// Priority within the repository.
	Priority Priority
	// ContentEncoding of Content.
	ContentEncoding ContentEncoding
	// Kind is a bounded type for metrics and routing: at most 64 bytes.
	Kind string
	// TimeToLive after acceptance; 0: none. Milliseconds count.
	TimeToLive time.Duration
	// DeliverAfter acceptance; must be shorter than TimeToLive, where that is set.
	DeliverAfter time.Duration
	// CreatedAt is the sender's clock; kept, not interpreted. The zero time is not sent.
	CreatedAt time.Time
	// Traceparent as in W3C Trace Context; at most 128 bytes.
	Traceparent string
}

// Receipt says that a packet is durable, and its number.
type Receipt struct {
	RepoID   string
	PacketID string
	// Sequence is the packet's number in its repository, from 1.
	Sequence uint64
	// Duplicate: this id or position had been accepted before; Sequence is the
	// first one's. A resend that the client made by itself may set it too.
	Duplicate bool
	// ContentDiffers: a duplicate by id whose content is another than the first one's.
	ContentDiffers bool
}
