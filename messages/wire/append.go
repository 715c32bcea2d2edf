package wire

import "google.golang.org/protobuf/encoding/protowire"

// Each append function has a size function beside it: a nested message needs its
// length in front, and moving its bytes afterwards would cost more than counting.
// Keys are given whole, as number<<3|type; all have one byte (numbers up to 15).

func appendUint(b []byte, key byte, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(append(b, key), v)
}

func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func appendBool(b []byte, key byte, v bool) []byte {
	if !v {
		return b
	}
	return append(b, key, 1)
}

func sizeBool(v bool) int {
	if !v {
		return 0
	}
	return 2
}

// appendBytes leaves an empty field out.
func appendBytes[T string | []byte](b []byte, key byte, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = appendLen(b, key, len(v))
	return append(b, v...)
}

func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return sizeLen(n)
}

// appendLen begins a field of n bytes, empty ones too.
func appendLen(b []byte, key byte, n int) []byte {
	return protowire.AppendVarint(append(b, key), uint64(n))
}

// sizeLen is the size of a field of n bytes with its key and length.
func sizeLen(n int) int {
	return 1 + protowire.SizeVarint(uint64(n)) + n
}

func appendFixed32(b []byte, key byte, v uint32) []byte {
	return protowire.AppendFixed32(append(b, key), v)
}

const sizeFixed32 = 1 + 4

// appendTime appends a Timestamp or Duration; nanos must be within ±999,999,999.
func appendTime(b []byte, key byte, t seconds) []byte {
	if t == (seconds{}) {
		return b
	}
	b = appendLen(b, key, t.size())
	b = appendUint(b, 1<<3|byte(varint), uint64(t.seconds))
	return appendUint(b, 2<<3|byte(varint), uint64(int64(t.nanos)))
}

func (t seconds) size() int {
	return sizeUint(uint64(t.seconds)) + sizeUint(uint64(int64(t.nanos)))
}

func sizeTime(t seconds) int {
	if t == (seconds{}) {
		return 0
	}
	return sizeLen(t.size())
}

// timestamp splits milliseconds since the epoch as a Timestamp wants them: nanos
// count forward, before 1970 too.
func timestamp(ms int64) seconds {
	s, rest := ms/1000, ms%1000
	if rest < 0 {
		s, rest = s-1, rest+1000
	}
	return seconds{seconds: s, nanos: int32(rest) * 1e6}
}
