package wire

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Wire types, in the low three bits of a field's key.
const (
	varint  = uint64(protowire.VarintType)
	fixed32 = uint64(protowire.Fixed32Type)
	bytes   = uint64(protowire.BytesType)
)

// scanner steps through the fields of one message. A field of a known number and
// another wire type has another key: it falls through the reader's switch, which
// is how protobuf treats it, as unknown.
type scanner struct {
	rest  []byte
	key   uint64 // number<<3 | wire type
	value uint64 // of a varint or fixed32
	bytes []byte // of a bytes field; aliases the message
	bad   bool   // the message is not protobuf; next has returned false
}

func scan(message []byte) scanner { return scanner{rest: message} }

// next moves to the next field; false at the end or when the message is broken.
func (s *scanner) next() bool {
	if len(s.rest) == 0 {
		return false
	}
	key, n := protowire.ConsumeVarint(s.rest)
	if n < 0 || key>>3 < uint64(protowire.MinValidNumber) || key>>3 > uint64(protowire.MaxValidNumber) {
		return s.fail()
	}
	s.key, s.rest = key, s.rest[n:]
	switch key & 7 {
	case bytes:
		s.bytes, n = protowire.ConsumeBytes(s.rest)
	case varint:
		s.value, n = protowire.ConsumeVarint(s.rest)
	case fixed32:
		var v uint32
		v, n = protowire.ConsumeFixed32(s.rest)
		s.value = uint64(v)
	default:
		n = protowire.ConsumeFieldValue(protowire.Number(key>>3), protowire.Type(key&7), s.rest)
	}
	if n < 0 {
		return s.fail()
	}
	s.rest = s.rest[n:]
	return true
}

func (s *scanner) fail() bool {
	s.bad, s.rest = true, nil
	return false
}

// enum narrows an enum's value. Protobuf enums are open, and no enum here comes
// near 255: it stands for every value that cannot be one.
func (s *scanner) enum() uint8 {
	if v := int32(s.value); v >= 0 && v < math.MaxUint8 {
		return uint8(v)
	}
	return math.MaxUint8
}
