package transport

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// maxEntries bounds the entries of a message, and with them what decoding may
// allocate beyond the bytes that came.
const maxEntries = 1 << 17

// messageCell is a message with room for what its pointers point to: one
// allocation, or a part of one, where protobuf makes ten.
type messageCell struct {
	m                                                pb.Message
	typ                                              pb.MessageType
	to, from, term, logTerm, index, commit, vote, hi uint64
	reject                                           bool
}

type entryCell struct {
	e           pb.Entry
	term, index uint64
	typ         pb.EntryType
}

// field is one field on the wire: a number or bytes.
type field struct {
	tag  uint64
	num  uint64
	data []byte
}

// next cuts a field off. It knows numbers and bytes only: all that the messages
// here are made of.
func next(b []byte) (f field, rest []byte, ok bool) {
	tag, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return f, nil, false
	}
	b = b[n:]
	f.tag = tag
	switch protowire.Type(tag & 7) {
	case protowire.VarintType:
		f.num, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		f.data, n = protowire.ConsumeBytes(b)
	default:
		return f, nil, false
	}
	if n < 0 {
		return f, nil, false
	}
	return f, b[n:], true
}

// decodeMessage reads a message into c, which must be zero. With owned set, the
// message's payloads are parts of b, which then belongs to it; else they are
// copied. What the decoding by hand does not know goes to protobuf's own.
func decodeMessage(c *messageCell, b []byte, owned bool) error {
	entries, ok := c.fields(b)
	if !ok {
		*c = messageCell{}
		if err := proto.Unmarshal(b, &c.m); err != nil {
			return fmt.Errorf("%w: %w", errFrame, err)
		}
		if len(c.m.Entries) > maxEntries {
			return fmt.Errorf("%w: %d entries", errFrame, len(c.m.Entries))
		}
		return nil
	}
	if entries > maxEntries {
		return fmt.Errorf("%w: %d entries", errFrame, entries)
	}
	if !owned && (entries > 0 || c.m.Context != nil) {
		b = bytes.Clone(b)
	}
	if entries > 0 || c.m.Context != nil {
		return c.bulk(b, entries)
	}
	return nil
}

// fields reads the numbers and counts the entries. It says false for a
// message that it does not know how to read.
func (c *messageCell) fields(b []byte) (entries int, ok bool) {
	m := &c.m
	for len(b) > 0 {
		var f field
		if f, b, ok = next(b); !ok {
			return 0, false
		}
		switch f.tag {
		case tagType:
			c.typ = pb.MessageType(f.num)
			m.Type = &c.typ
		case tagTo:
			m.To = set(&c.to, f.num)
		case tagFrom:
			m.From = set(&c.from, f.num)
		case tagTerm:
			m.Term = set(&c.term, f.num)
		case tagLogTerm:
			m.LogTerm = set(&c.logTerm, f.num)
		case tagIndex:
			m.Index = set(&c.index, f.num)
		case tagEntry:
			entries++
		case tagCommit:
			m.Commit = set(&c.commit, f.num)
		case tagReject:
			c.reject = protowire.DecodeBool(f.num)
			m.Reject = &c.reject
		case tagRejectHint:
			m.RejectHint = set(&c.hi, f.num)
		case tagContext:
			m.Context = f.data
		case tagVote:
			m.Vote = set(&c.vote, f.num)
		default:
			return 0, false
		}
	}
	return entries, true
}

func set(at *uint64, v uint64) *uint64 {
	*at = v
	return at
}

// bulk reads what fields left: entries and the context, as parts of b.
func (c *messageCell) bulk(b []byte, entries int) error {
	cells := make([]entryCell, entries)
	if entries > 0 {
		c.m.Entries = make([]*pb.Entry, 0, entries)
	}
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return errFrame
		}
		b = rest
		switch f.tag {
		case tagContext:
			c.m.Context = f.data[:len(f.data):len(f.data)]
		case tagEntry:
			cell := &cells[len(c.m.Entries)]
			if err := cell.decode(f.data); err != nil {
				return err
			}
			c.m.Entries = append(c.m.Entries, &cell.e)
		}
	}
	return nil
}

func (c *entryCell) decode(b []byte) error {
	whole := b
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return c.slow(whole)
		}
		b = rest
		switch f.tag {
		case tagEntryType:
			c.typ = pb.EntryType(f.num)
			c.e.Type = &c.typ
		case tagEntryTerm:
			c.e.Term = set(&c.term, f.num)
		case tagEntryIndex:
			c.e.Index = set(&c.index, f.num)
		case tagEntryData:
			c.e.Data = f.data[:len(f.data):len(f.data)]
		default:
			return c.slow(whole)
		}
	}
	return nil
}

func (c *entryCell) slow(b []byte) error {
	*c = entryCell{}
	if err := proto.Unmarshal(b, &c.e); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}
