package client

import (
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"github.com/waystation/waystation/messages/wire"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// item is one packet from PublishAsync to its callback.
type item struct {
	fields wire.PacketFields
	size   int // bytes in a frame, without the position
	cost   int64
	since  time.Time // when it was handed over; zero without GiveUpAfter
	done   func(Receipt, error)
	pooled bool

	// Guarded by the publisher's mutex.
	lane  *lane
	key   uint64
	flock *flock
	last  *Error // the last refusal, for who gives up
	over  bool   // ended: the callback is called, or soon will be
}

// fill takes a packet over. It keeps Content and Metadata.
func (it *item) fill(p *Packet, producer string) {
	it.fields = wire.PacketFields{
		RepoID: p.RepoID, Content: p.Content, Metadata: p.Metadata, PacketID: p.PacketID,
		Priority: uint8(p.Priority), Encoding: uint8(p.ContentEncoding), Kind: p.Kind,
		TimeToLive:   p.TimeToLive.Truncate(time.Millisecond),
		DeliverAfter: p.DeliverAfter.Truncate(time.Millisecond),
		CreatedAt:    p.CreatedAt, Traceparent: p.Traceparent,
		HasCRC: true, CRC: crc32.Checksum(p.Content, castagnoli),
	}
	it.size = wire.SizePacket(&it.fields) + elementOverhead
	it.fields.Producer = producer
}

const (
	// elementOverhead is the key and length of a packet in a frame.
	elementOverhead = 1 + 4
	// positionOverhead is the most that a position takes, but for the producer's name.
	positionOverhead = 2 + 3 + 11 + 11
)

// keep copies what belongs to the caller, who takes it back.
func (it *item) keep() {
	it.fields.Content = slices.Clone(it.fields.Content)
	it.fields.Metadata = maps.Clone(it.fields.Metadata)
}

// outcome is the error of an item that ended without an answer of its own.
func (it *item) outcome(maybe bool) error {
	var last string
	if it.last != nil {
		if !maybe {
			return it.last
		}
		last = ": " + it.last.Error()
	}
	if maybe {
		return &Error{Code: CodeUnknown, Message: "no answer, the packet may have been accepted" + last}
	}
	return &Error{Code: CodeUnavailable, Message: "not sent"}
}

// reset makes an item fit for the pool.
func (it *item) reset() { *it = item{} }

// flock is a set of packets that a Flush waits for.
type flock struct {
	n      int
	sealed bool
	done   chan struct{} // made by the Flush that seals it
}

// completion is an ended packet whose callback is to be called without the lock.
type completion struct {
	it      *item
	receipt Receipt
	err     error
}
