package transport

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

// vecBytes is the size from which on a payload is written from where it lies.
// A smaller one is copied: that is cheaper than one more vector.
const vecBytes = 4 << 10

// Field tags of raftpb.Message and raftpb.Entry: the number, and in the lowest
// bits the wire type.
const (
	asNumber = 0
	asBytes  = 2

	tagType       = 1<<3 + asNumber
	tagTo         = 2<<3 + asNumber
	tagFrom       = 3<<3 + asNumber
	tagTerm       = 4<<3 + asNumber
	tagLogTerm    = 5<<3 + asNumber
	tagIndex      = 6<<3 + asNumber
	tagEntry      = 7<<3 + asBytes
	tagCommit     = 8<<3 + asNumber
	tagReject     = 10<<3 + asNumber
	tagRejectHint = 11<<3 + asNumber
	tagContext    = 12<<3 + asBytes
	tagVote       = 13<<3 + asNumber

	tagEntryType  = 1<<3 + asNumber
	tagEntryTerm  = 2<<3 + asNumber
	tagEntryIndex = 3<<3 + asNumber
	tagEntryData  = 4<<3 + asBytes
)

// plain says that a message has only the fields that the encoding by hand
// knows. Messages that raft sends to other replicas do, but for MsgSnap.
func plain(m *pb.Message) bool { return m.Snapshot == nil && len(m.Responses) == 0 }

// sizeMessage returns the size of m as protobuf encodes it.
func sizeMessage(m *pb.Message) int {
	if !plain(m) {
		return proto.Size(m)
	}
	n := 0
	if m.Type != nil {
		n += 1 + protowire.SizeVarint(uint64(*m.Type))
	}
	n += sizeField(m.To) + sizeField(m.From) + sizeField(m.Term) + sizeField(m.LogTerm) + sizeField(m.Index)
	for _, e := range m.Entries {
		n += 1 + protowire.SizeBytes(sizeEntry(e))
	}
	n += sizeField(m.Commit) + sizeField(m.RejectHint) + sizeField(m.Vote)
	if m.Reject != nil {
		n += 2
	}
	if m.Context != nil {
		n += 1 + protowire.SizeBytes(len(m.Context))
	}
	return n
}

func sizeEntry(e *pb.Entry) int {
	if e == nil {
		return 0
	}
	n := sizeField(e.Term) + sizeField(e.Index)
	if e.Type != nil {
		n += 1 + protowire.SizeVarint(uint64(*e.Type))
	}
	if e.Data != nil {
		n += 1 + protowire.SizeBytes(len(e.Data))
	}
	return n
}

func sizeField(v *uint64) int {
	if v == nil {
		return 0
	}
	return 1 + protowire.SizeVarint(*v)
}

// encoder builds one frame of messages as a list of pieces: what it wrote
// itself, and large payloads where they lie. Payloads must not change until
// the frame is written. It is used again for the next frame.
type encoder struct {
	buf    []byte
	mark   int // buf up to here is in pieces
	pieces [][]byte
	size   int // of all pieces
	count  uint32
}

// begin starts a frame.
func (e *encoder) begin() {
	clear(e.pieces)
	e.buf = append(e.buf[:0], make([]byte, headerSize+4)...)
	e.pieces, e.mark, e.size, e.count = e.pieces[:0], 0, 0, 0
}

// add appends a message whose sizeMessage is size.
func (e *encoder) add(g storage.GroupID, m *pb.Message, size int) error {
	e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(g))
	e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(size))
	e.count++
	if plain(m) {
		e.message(m)
		return nil
	}
	before := len(e.buf)
	b, err := proto.MarshalOptions{}.MarshalAppend(e.buf, m)
	if err != nil || len(b)-before != size {
		return fmt.Errorf("marshal message of %d bytes to %d: %w", size, len(b)-before, err)
	}
	e.buf = b
	return nil
}

// end completes the frame and returns its pieces, valid until begin.
func (e *encoder) end() [][]byte {
	e.cut()
	first := e.pieces[0]
	binary.BigEndian.PutUint32(first[headerSize:], e.count)
	crc := putHeader(first, frameMessages, e.size-headerSize)
	crc = crc32.Update(crc, castagnoli, first[headerSize:])
	for _, p := range e.pieces[1:] {
		crc = crc32.Update(crc, castagnoli, p)
	}
	binary.BigEndian.PutUint32(first[8:], crc)
	return e.pieces
}

// cut ends a piece. A piece stays right if buf moves later: nothing is written
// to it again, but for the header, which end finds through the piece.
func (e *encoder) cut() {
	if piece := e.buf[e.mark:]; len(piece) > 0 {
		e.pieces = append(e.pieces, piece)
		e.size += len(piece)
		e.mark = len(e.buf)
	}
}

// message appends a plain message, fields by number, as protobuf does.
func (e *encoder) message(m *pb.Message) {
	b := e.buf
	if m.Type != nil {
		b = protowire.AppendVarint(append(b, tagType), uint64(*m.Type))
	}
	b = appendField(b, tagTo, m.To)
	b = appendField(b, tagFrom, m.From)
	b = appendField(b, tagTerm, m.Term)
	b = appendField(b, tagLogTerm, m.LogTerm)
	b = appendField(b, tagIndex, m.Index)
	e.buf = b
	for _, entry := range m.Entries {
		e.entry(entry)
	}
	b = appendField(e.buf, tagCommit, m.Commit)
	if m.Reject != nil {
		b = append(b, tagReject, byte(protowire.EncodeBool(*m.Reject)))
	}
	b = appendField(b, tagRejectHint, m.RejectHint)
	if m.Context != nil {
		b = protowire.AppendBytes(append(b, tagContext), m.Context)
	}
	e.buf = appendField(b, tagVote, m.Vote)
}

func (e *encoder) entry(x *pb.Entry) {
	b := protowire.AppendVarint(append(e.buf, tagEntry), uint64(sizeEntry(x)))
	if x == nil {
		e.buf = b
		return
	}
	if x.Type != nil {
		b = protowire.AppendVarint(append(b, tagEntryType), uint64(*x.Type))
	}
	b = appendField(b, tagEntryTerm, x.Term)
	b = appendField(b, tagEntryIndex, x.Index)
	if x.Data != nil {
		b = protowire.AppendVarint(append(b, tagEntryData), uint64(len(x.Data)))
	}
	if len(x.Data) < vecBytes {
		e.buf = append(b, x.Data...)
		return
	}
	e.buf = b
	e.cut()
	e.pieces = append(e.pieces, x.Data)
	e.size += len(x.Data)
}

func appendField(b []byte, tag byte, v *uint64) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendVarint(append(b, tag), *v)
}
