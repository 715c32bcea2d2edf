package wire

import (
	"errors"
	"fmt"
)

// Limits bound what is accepted; all but the counts are bytes.
type Limits struct {
	// Content, RepoID, PacketID, Producer and Kind bound one packet's fields.
	Content, RepoID, PacketID, Producer, Kind int
	// MetadataPairs is a count; MetadataBytes sums keys and values.
	MetadataPairs, MetadataBytes int
	// Overhead bounds what a packet has beside its content, unknown fields and
	// overwritten ones included: they are kept with it.
	Overhead int
	// FrameBytes and FramePackets bound a frame of more than one packet.
	FrameBytes, FramePackets int
}

// maxTraceparent is fixed: a W3C trace parent has 55 bytes.
const maxTraceparent = 128

// DefaultLimits returns the limits of the public interface.
func DefaultLimits() Limits {
	return Limits{
		Content:       8 << 20,
		RepoID:        512,
		PacketID:      256,
		Producer:      128,
		Kind:          64,
		MetadataPairs: 64,
		MetadataBytes: 16 << 10,
		Overhead:      64 << 10,
		FrameBytes:    4 << 20,
		FramePackets:  1024,
	}
}

// Validate returns all limits that are not positive, joined.
func (l *Limits) Validate() error {
	var faults []error
	for _, limit := range []struct {
		name  string
		value int
	}{
		{"content", l.Content},
		{"repo id", l.RepoID},
		{"packet id", l.PacketID},
		{"producer", l.Producer},
		{"kind", l.Kind},
		{"metadata pairs", l.MetadataPairs},
		{"metadata bytes", l.MetadataBytes},
		{"overhead", l.Overhead},
		{"frame bytes", l.FrameBytes},
		{"frame packets", l.FramePackets},
	} {
		if limit.value <= 0 {
			faults = append(faults, fmt.Errorf("%s limit is %d, must be positive", limit.name, limit.value))
		}
	}
	return errors.Join(faults...)
}

// MessageBytes is the size of the largest message that can hold what the limits
// allow: a full frame, or one packet of the largest content. What a transport
// accepts should be somewhat above it, so that a little too much is refused by
// its field's name and not by the transport.
func (l *Limits) MessageBytes() int {
	const lengths = 16
	return max(l.FrameBytes, l.Content+l.Overhead+lengths)
}
