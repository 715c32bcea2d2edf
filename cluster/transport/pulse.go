package transport

import (
	"encoding/binary"
	"fmt"
	"time"
)

// pulse is what a ping and a pong say: the monotonic clock of who pings, which
// the pong sends back, then the wall clock and the disk headroom of who writes
// the frame. i64 each, nanoseconds and bytes.
type pulse struct {
	mono     time.Duration
	wall     int64
	headroom int64
}

const pulseBody = 24

func appendPulse(b []byte, kind frameKind, p pulse) []byte {
	var body [pulseBody]byte
	binary.BigEndian.PutUint64(body[:], uint64(p.mono))
	binary.BigEndian.PutUint64(body[8:], uint64(p.wall))
	binary.BigEndian.PutUint64(body[16:], uint64(p.headroom))
	return appendFrame(b, kind, body[:]...)
}

func parsePulse(b []byte) (pulse, error) {
	if len(b) != pulseBody {
		return pulse{}, fmt.Errorf("%w: pulse of %d bytes", errFrame, len(b))
	}
	return pulse{
		mono: time.Duration(binary.BigEndian.Uint64(b)), wall: int64(binary.BigEndian.Uint64(b[8:])),
		headroom: int64(binary.BigEndian.Uint64(b[16:])),
	}, nil
}

// pulse is this node's, at this moment.
func (t *Transport) pulse(mono time.Duration) pulse {
	return pulse{mono: mono, wall: t.cfg.Wall(), headroom: t.cfg.Headroom()}
}
