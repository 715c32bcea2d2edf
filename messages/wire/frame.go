package wire

import "slices"

// WalkFrame is Limits.WalkFrame with the default limits.
func WalkFrame(frame []byte, packets []Packet) ([]Packet, error) {
	l := DefaultLimits()
	return l.WalkFrame(frame, packets)
}

// WalkFrame parses frame, a PublishStreamRequest, and appends a view of each
// packet to packets: they alias frame. A packet that does not parse has Bad set
// and refuses no other one. The error is a *FieldError on the frame as a whole:
// not protobuf, too many packets, or too many bytes for more than one packet;
// packets is then returned as it was given.
func (l *Limits) WalkFrame(frame []byte, packets []Packet) ([]Packet, error) {
	first := len(packets)
	s := scan(frame)
	for s.next() {
		if s.key != 1<<3|bytes {
			continue
		}
		if len(packets)-first >= l.FramePackets {
			return packets[:first], refuse("packets", "has more than %d packets, the most in one frame: split it", l.FramePackets)
		}
		packets = grow(packets)
		// A packet keeps why it does not parse.
		_ = packets[len(packets)-1].parse(s.bytes)
	}
	switch {
	case s.bad:
		return packets[:first], broken("packets")
	case len(packets)-first > 1 && len(frame) > l.FrameBytes:
		return packets[:first], refuse("packets", "has %d bytes, at most %d are allowed in a frame of more than one packet: split it",
			len(frame), l.FrameBytes)
	}
	return packets, nil
}

// grow adds one element without clearing it: parse does.
func grow(packets []Packet) []Packet {
	n := len(packets)
	if n == cap(packets) {
		packets = slices.Grow(packets, max(n, 64))
	}
	return packets[:n+1]
}
