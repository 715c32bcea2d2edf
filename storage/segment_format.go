package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The log is a row of segment files. Each begins with its header, twice; what follows are
// frames. A frame is one commit: its block, the chunks of its entries, and the block again.
// The block says what the commit did, so that a flipped bit in it costs nothing: the other copy
// is there. Chunks are there once, and each proves by itself which entry it belongs to.
// docs/storage-format.md has the bytes.

const (
	segmentMagic      = "wslogseg"
	segmentHeaderSize = 40
	segmentCopy       = 2048 // where the header's second copy stands
	segmentStart      = 4096 // where the frames begin
	segmentMost       = 1 << 31

	blockHead = 48
	// frameMost is the most bytes of one frame.
	frameMost = 1 << 30
)

// segmentHeader is written and synced before the first frame.
type segmentHeader struct {
	number  uint32 // of the segment; each one is one above the one before
	first   uint32 // the oldest segment that was needed
	prevEnd uint32 // where the segment before ends: what it holds behind is nothing
	nonce   uint64 // random: nothing that lies in a used file, or in a packet, is taken for a frame
	seq     uint64 // of the first frame
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic)
	binary.BigEndian.PutUint32(b[12:], h.number)
	binary.BigEndian.PutUint32(b[16:], h.first)
	binary.BigEndian.PutUint32(b[20:], h.prevEnd)
	binary.BigEndian.PutUint64(b[24:], h.nonce)
	binary.BigEndian.PutUint64(b[32:], h.seq)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
	return b
}

func parseSegmentHeader(b []byte) (h segmentHeader, ok bool) {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic ||
		binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[12:segmentHeaderSize], castagnoli) {
		return h, false
	}
	return segmentHeader{
		number: binary.BigEndian.Uint32(b[12:]), first: binary.BigEndian.Uint32(b[16:]),
		prevEnd: binary.BigEndian.Uint32(b[20:]), nonce: binary.BigEndian.Uint64(b[24:]),
		seq: binary.BigEndian.Uint64(b[32:]),
	}, true
}

// The kinds of what a frame does. None is used again.
const (
	opEntry       = 1 // an entry behind the group's last
	opCarried     = 2 // an entry once more, from a segment that is to go
	opLost        = 3 // the same, where the entry turned out to be damaged: it has no chunks
	opSet         = 4
	opDelete      = 5
	opDeleteRange = 6
)

const entryOpSize = 1 + 4 + 8 + 4

// frameOp is one thing that a frame does.
type frameOp struct {
	kind       byte
	group      GroupID
	index      uint64
	size       uint32 // of an entry
	off        uint32 // of an entry's first chunk, in the frame's chunks
	key, value []byte // of a small record; the bounds of a range
}

func (o *frameOp) entry() bool { return o.kind <= opLost }

// stored is what the op takes among the frame's chunks.
func (o *frameOp) stored() uint64 {
	if o.kind > opCarried {
		return 0
	}
	return storedBytes(int(o.size))
}

func (o *frameOp) append(b []byte) []byte {
	b = append(b, o.kind)
	if o.entry() {
		b = binary.BigEndian.AppendUint32(b, uint32(o.group))
		b = binary.BigEndian.AppendUint64(b, o.index)
		return binary.BigEndian.AppendUint32(b, o.size)
	}
	b = appendBytes(b, o.key)
	if o.kind != opDelete {
		b = appendBytes(b, o.value)
	}
	return b
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

var errFrame = errors.New("not a frame")

func parseOp(b []byte) (o frameOp, rest []byte, err error) {
	if len(b) == 0 || b[0] < opEntry || b[0] > opDeleteRange {
		return o, nil, fmt.Errorf("%w: unknown operation", errFrame)
	}
	o.kind = b[0]
	if o.entry() {
		if len(b) < entryOpSize {
			return o, nil, fmt.Errorf("%w: %w", errFrame, errLength)
		}
		o.group = GroupID(binary.BigEndian.Uint32(b[1:]))
		o.index = binary.BigEndian.Uint64(b[5:])
		o.size = binary.BigEndian.Uint32(b[13:])
		return o, b[entryOpSize:], nil
	}
	if o.key, rest, err = cutBytes(b[1:]); err != nil || o.kind == opDelete {
		return o, rest, err
	}
	o.value, rest, err = cutBytes(rest)
	return o, rest, err
}

func cutBytes(b []byte) (p, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, fmt.Errorf("%w: %w", errFrame, errLength)
	}
	end := used + int(n)
	return b[used:end], b[end:], nil
}

// frame is a block taken apart.
type frame struct {
	seq     uint64
	synced  uint64 // all frames up to this one were synced when this one was written
	off     uint32 // where it begins in its segment
	block   uint32 // length of each block
	body    uint32 // length of all chunks
	first   uint32 // the oldest segment that was needed
	ops     []frameOp
	damaged []damagedEntry // found when it was verified
}

func (f *frame) bodyAt() int64 { return int64(f.off) + int64(f.block) }
func (f *frame) backAt() int64 { return f.bodyAt() + int64(f.body) }
func (f *frame) end() int64    { return f.backAt() + int64(f.block) }

// appendBlock encodes a frame whose lengths are set here, but for body.
func (f *frame) appendBlock(b []byte, nonce uint64) []byte {
	begin := len(b)
	b = append(b, make([]byte, blockHead)...)
	for i := range f.ops {
		b = f.ops[i].append(b)
	}
	p := b[begin:]
	f.block = uint32(len(p))
	binary.BigEndian.PutUint64(p, nonce)
	binary.BigEndian.PutUint32(p[12:], f.block)
	binary.BigEndian.PutUint64(p[16:], f.seq)
	binary.BigEndian.PutUint64(p[24:], f.synced)
	binary.BigEndian.PutUint32(p[32:], f.off)
	binary.BigEndian.PutUint32(p[36:], f.body)
	binary.BigEndian.PutUint32(p[40:], f.first)
	binary.BigEndian.PutUint32(p[44:], uint32(len(f.ops)))
	binary.BigEndian.PutUint32(p[8:], crc32.Checksum(p[12:], castagnoli))
	return b
}

// blockLen returns how long the block at the start of b says that it is, if it may be one.
func blockLen(b []byte, nonce uint64) (int, bool) {
	if len(b) < blockHead || binary.BigEndian.Uint64(b) != nonce {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b[12:])
	return int(n), n >= blockHead && n <= frameMost
}

// parseBlock takes the block at the start of b apart. Its slices alias b.
func parseBlock(b []byte, nonce uint64) (frame, error) {
	n, ok := blockLen(b, nonce)
	if !ok || n > len(b) {
		return frame{}, errFrame
	}
	b = b[:n]
	if binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[12:], castagnoli) {
		return frame{}, fmt.Errorf("%w: %w", errFrame, errChecksum)
	}
	f := frame{
		seq: binary.BigEndian.Uint64(b[16:]), synced: binary.BigEndian.Uint64(b[24:]),
		off: binary.BigEndian.Uint32(b[32:]), block: uint32(n), body: binary.BigEndian.Uint32(b[36:]),
		first: binary.BigEndian.Uint32(b[40:]),
	}
	return f, f.parseOps(b[blockHead:], int(binary.BigEndian.Uint32(b[44:])))
}

func (f *frame) parseOps(b []byte, n int) (err error) {
	if n > len(b) || f.end() > segmentMost+2*frameMost {
		return fmt.Errorf("%w: %w", errFrame, errLength)
	}
	f.ops = make([]frameOp, n)
	off := uint64(0)
	for i := range f.ops {
		o := &f.ops[i]
		if *o, b, err = parseOp(b); err != nil {
			return err
		}
		o.off = uint32(off)
		if off += o.stored(); off > uint64(f.body) {
			return fmt.Errorf("%w: %w", errFrame, errLength)
		}
	}
	if len(b) != 0 || off != uint64(f.body) {
		return fmt.Errorf("%w: %w", errFrame, errLength)
	}
	return nil
}

// chunkCRC is over where a chunk stands, its key and its value.
func chunkCRC(nonce uint64, off int64, keyAndValue []byte) uint32 {
	var at [12]byte
	binary.BigEndian.PutUint64(at[:], nonce)
	binary.BigEndian.PutUint32(at[8:], uint32(off))
	return crc32.Update(crc32.Checksum(at[:], castagnoli), castagnoli, keyAndValue)
}

// chunkStride is what each chunk but an entry's last takes.
const chunkStride = chunkOverhead + chunkData

// openChunk returns the value of the chunk of a key, which stands at off, or what is wrong with it.
func openChunk(nonce uint64, off int64, b, key []byte) ([]byte, error) {
	if len(b) < chunkOverhead {
		return nil, errLength
	}
	if binary.BigEndian.Uint32(b) != chunkCRC(nonce, off, b[crcSize:]) {
		return nil, errChecksum
	}
	if !bytes.Equal(b[crcSize:crcSize+entryKeySize], key) {
		return nil, errForeign
	}
	return b[crcSize+entryKeySize:], nil
}

var errForeign = errors.New("another record stands in its place")

// flippedBit tells whether one flipped bit, in the n bytes that a checksum is over or in the checksum,
// explains the difference between the two. A torn write does so once in some 10,000 times.
func flippedBit(difference uint32, n int) bool {
	if difference != 0 && difference&(difference-1) == 0 {
		return true
	}
	r := uint32(1)
	for range 8 * n {
		bit := r & 1
		r >>= 1
		if bit != 0 {
			r ^= crc32.Castagnoli
		}
		if r == difference {
			return true
		}
	}
	return false
}

const sectorSize = 512

// blankSector tells whether p, which stands at off, has a whole sector of zeros, as one that was never
// written reads.
func blankSector(p []byte, off int64) bool {
	var blank [sectorSize]byte
	for at := int((sectorSize - off%sectorSize) % sectorSize); at+sectorSize <= len(p); at += sectorSize {
		if bytes.Equal(p[at:at+sectorSize], blank[:]) {
			return true
		}
	}
	return false
}
