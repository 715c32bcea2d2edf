package wire

import (
	"maps"
	"slices"
	"time"
)

// PacketFields are a CodePacket's fields, for those who make one: the client and
// the HTTP interface. Strings must be UTF-8; AppendPacket does not look.
type PacketFields struct {
	RepoID   string
	Content  []byte
	Metadata map[string]string
	PacketID string
	// Producer, Epoch and Sequence are the position; it is left out when Producer
	// is empty.
	Producer        string
	Epoch, Sequence uint64
	// Priority and Encoding are the values of the enums.
	Priority, Encoding uint8
	Kind               string
	// TimeToLive and DeliverAfter are left out when 0.
	TimeToLive, DeliverAfter time.Duration
	// CreatedAt is left out when zero.
	CreatedAt   time.Time
	Traceparent string
	// HasCRC writes CRC as content_crc32c.
	HasCRC bool
	// CRC is the CRC-32C of Content.
	CRC uint32
}

// AppendPacket appends the bytes of a CodePacket to b. The same fields always
// give the same bytes.
func AppendPacket(b []byte, f *PacketFields) []byte {
	b = appendBytes(b, 1<<3|byte(bytes), f.RepoID)
	b = appendBytes(b, 2<<3|byte(bytes), f.Content)
	b = f.appendMetadata(b)
	b = appendBytes(b, 4<<3|byte(bytes), f.PacketID)
	if f.Producer != "" {
		b = appendLen(b, 5<<3|byte(bytes), f.sizePosition())
		b = appendBytes(b, 1<<3|byte(bytes), f.Producer)
		b = appendUint(b, 2<<3|byte(varint), f.Epoch)
		b = appendUint(b, 3<<3|byte(varint), f.Sequence)
	}
	b = appendUint(b, 6<<3|byte(varint), uint64(f.Priority))
	b = appendUint(b, 7<<3|byte(varint), uint64(f.Encoding))
	b = appendBytes(b, 8<<3|byte(bytes), f.Kind)
	b = appendTime(b, 9<<3|byte(bytes), duration(f.TimeToLive))
	b = appendTime(b, 10<<3|byte(bytes), duration(f.DeliverAfter))
	b = appendTime(b, 11<<3|byte(bytes), f.created())
	b = appendBytes(b, 12<<3|byte(bytes), f.Traceparent)
	if f.HasCRC {
		b = appendFixed32(b, 13<<3|byte(fixed32), f.CRC)
	}
	return b
}

// SizePacket returns the number of bytes that AppendPacket appends.
func SizePacket(f *PacketFields) int {
	size := sizeBytes(len(f.RepoID)) + sizeBytes(len(f.Content)) + sizeBytes(len(f.PacketID)) +
		sizeUint(uint64(f.Priority)) + sizeUint(uint64(f.Encoding)) + sizeBytes(len(f.Kind)) +
		sizeTime(duration(f.TimeToLive)) + sizeTime(duration(f.DeliverAfter)) + sizeTime(f.created()) +
		sizeBytes(len(f.Traceparent))
	for k, v := range f.Metadata {
		size += sizeLen(sizePair(k, v))
	}
	if f.Producer != "" {
		size += sizeLen(f.sizePosition())
	}
	if f.HasCRC {
		size += sizeFixed32
	}
	return size
}

// AppendFramePacket appends f to b as an element of PublishStreamRequest.packets;
// alone it is a PublishRequest too.
func AppendFramePacket(b []byte, f *PacketFields) []byte {
	return AppendPacket(appendLen(b, 1<<3|byte(bytes), SizePacket(f)), f)
}

func (f *PacketFields) sizePosition() int {
	return sizeBytes(len(f.Producer)) + sizeUint(f.Epoch) + sizeUint(f.Sequence)
}

func (f *PacketFields) created() seconds {
	if f.CreatedAt.IsZero() {
		return seconds{}
	}
	return seconds{seconds: f.CreatedAt.Unix(), nanos: int32(f.CreatedAt.Nanosecond())}
}

func (f *PacketFields) appendMetadata(b []byte) []byte {
	if len(f.Metadata) == 0 {
		return b
	}
	for _, k := range slices.Sorted(maps.Keys(f.Metadata)) {
		v := f.Metadata[k]
		b = appendLen(b, 3<<3|byte(bytes), sizePair(k, v))
		b = appendBytes(b, 1<<3|byte(bytes), k)
		b = appendBytes(b, 2<<3|byte(bytes), v)
	}
	return b
}

func sizePair(k, v string) int { return sizeBytes(len(k)) + sizeBytes(len(v)) }

func duration(d time.Duration) seconds {
	return seconds{seconds: int64(d / time.Second), nanos: int32(d % time.Second)}
}
