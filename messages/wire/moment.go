package wire

import "math"

// malformed stands for a Duration or Timestamp that is none: nanoseconds out of
// range or against the sign of the seconds. Being negative, it is never accepted.
const malformed = math.MinInt64

// seconds is a google.protobuf.Duration or Timestamp while it is being merged.
type seconds struct {
	seconds int64
	nanos   int32
}

func (t *seconds) merge(message []byte) (ok bool) {
	s := scan(message)
	for s.next() {
		switch s.key {
		case 1<<3 | varint:
			t.seconds = int64(s.value)
		case 2<<3 | varint:
			t.nanos = int32(s.value)
		}
	}
	return !s.bad
}

// durationMs rounds away from zero: half a millisecond to live is not "no time
// to live", and a nanosecond below zero is below zero.
func (t seconds) durationMs() int64 {
	const second = int32(1e9)
	if t.nanos <= -second || t.nanos >= second || t.seconds > 0 && t.nanos < 0 || t.seconds < 0 && t.nanos > 0 {
		return malformed
	}
	ms := int64(t.nanos) / 1e6
	switch rest := t.nanos % 1e6; {
	case rest > 0:
		ms++
	case rest < 0:
		ms--
	}
	return addSeconds(t.seconds, ms)
}

// timestampMs rounds towards the past, as clocks are read.
func (t seconds) timestampMs() int64 {
	if t.nanos < 0 || t.nanos >= 1e9 {
		return malformed
	}
	return addSeconds(t.seconds, int64(t.nanos)/1e6)
}

// addSeconds saturates, and leaves malformed to the malformed.
func addSeconds(s, ms int64) int64 {
	const most = math.MaxInt64/1000 - 1
	switch {
	case s > most:
		return math.MaxInt64
	case s < -most:
		return math.MinInt64 + 1
	}
	return s*1000 + ms
}
