package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// segmentBatch gathers one frame. Chunks are put where they will be written from: in front of them
// is room for the block, behind them it follows.
type segmentBatch struct {
	log    *segmentLog
	buf    []byte // room, then chunks
	room   int
	ops    []frameOp
	smalls []pendingSmall
	block  []byte
	err    error
}

// pendingSmall is a small record that its writer has yet to fill in.
type pendingSmall struct {
	op         int
	key, value []byte
}

const blockRoom = 4 << 10

// NewBatch returns an empty batch, whose buffer was used before if there is one.
func (l *segmentLog) NewBatch(size int) KVBatch {
	if b := l.free.get(); b != nil {
		return b
	}
	b := &segmentBatch{log: l, room: blockRoom}
	b.buf = make([]byte, b.room, b.room+max(size, 64<<10))
	return b
}

// Set takes an entry's chunks in order, each entry's right behind one another.
func (b *segmentBatch) Set(keyLen, valueLen int) (key, value []byte) {
	if keyLen != entryKeySize {
		p := make([]byte, keyLen+valueLen)
		key, value = p[:keyLen:keyLen], p[keyLen:]
		b.smalls = append(b.smalls, pendingSmall{len(b.ops), key, value})
		b.ops = append(b.ops, frameOp{kind: opSet})
		return key, value
	}
	b.ops = append(b.ops, frameOp{kind: opEntry, off: uint32(len(b.buf) - b.room)})
	p := b.extend(crcSize + keyLen + valueLen)[crcSize:]
	return p[:keyLen:keyLen], p[keyLen:]
}

// extend grows the chunks by n bytes, whatever they hold.
func (b *segmentBatch) extend(n int) []byte {
	begin := len(b.buf)
	if cap(b.buf)-begin < n {
		grown := make([]byte, begin, max(2*cap(b.buf), begin+n))
		copy(grown, b.buf)
		b.buf = grown
	}
	b.buf = b.buf[:begin+n]
	return b.buf[begin:]
}

func (b *segmentBatch) Delete(key []byte) {
	b.ops = append(b.ops, frameOp{kind: opDelete, key: bytes.Clone(key)})
}

func (b *segmentBatch) DeleteRange(lower, upper []byte) {
	b.ops = append(b.ops, frameOp{kind: opDeleteRange, key: bytes.Clone(lower), value: bytes.Clone(upper)})
}

func (b *segmentBatch) Len() int { return len(b.buf) - b.room + len(b.ops)*entryOpSize }

// Commit writes one frame. Commits wait for one another.
func (b *segmentBatch) Commit(sync bool) error {
	err := b.log.commit(b, sync)
	if err == nil {
		b.reuse()
	}
	return err
}

func (b *segmentBatch) Discard() { b.reuse() }

func (b *segmentBatch) reuse() {
	clear(b.ops)
	clear(b.smalls)
	b.buf, b.ops, b.smalls, b.err = b.buf[:b.room], b.ops[:0], b.smalls[:0], nil
	if cap(b.buf) <= freeBatchBytes {
		b.log.free.put(b)
	}
}

// gather takes the small records that were filled in, and makes one op of all chunks of an entry.
func (b *segmentBatch) gather() error {
	for _, s := range b.smalls {
		b.ops[s.op].key, b.ops[s.op].value = s.key, s.value
	}
	kept := b.ops[:0]
	for i := range b.ops {
		o := b.ops[i]
		if o.kind == opEntry {
			first, err := b.chunk(&o)
			if err != nil {
				return err
			}
			if !first {
				continue
			}
		}
		kept = append(kept, o)
	}
	clear(b.ops[len(kept):])
	b.ops = kept
	return nil
}

// chunk reads the entry that a chunk belongs to from its key and header.
func (b *segmentBatch) chunk(o *frameOp) (first bool, err error) {
	p := b.buf[b.room+int(o.off)+crcSize:]
	g, index, ok := parseEntryKey(p[:entryKeySize])
	if !ok || len(p) < entryKeySize+chunkHeader {
		return false, fmt.Errorf("%w: key %x", errFrame, p[:entryKeySize])
	}
	o.group, o.index = g, index
	o.size = binary.BigEndian.Uint32(p[entryKeySize+1:])
	return binary.BigEndian.Uint32(p[entryKeySize-4:]) == 0, nil
}

// seal makes a frame of what was gathered, to be written at f.off.
func (b *segmentBatch) seal(f *frame, nonce uint64) error {
	f.ops = b.ops
	if uint64(len(b.buf)-b.room) > frameMost {
		return fmt.Errorf("%w: a batch of %d bytes", errLength, len(b.buf)-b.room)
	}
	f.body = uint32(len(b.buf) - b.room)
	b.block = f.appendBlock(b.block[:0], nonce)
	if len(b.block) > b.room {
		b.makeRoom(len(b.block))
	}
	at := f.bodyAt()
	for i := range b.ops {
		if o := &b.ops[i]; o.kind <= opCarried {
			b.sealEntry(o, at, nonce)
		}
	}
	copy(b.buf[b.room-len(b.block):], b.block)
	copy(b.extend(len(b.block)), b.block)
	return nil
}

func (b *segmentBatch) sealEntry(o *frameOp, at int64, nonce uint64) {
	off := int(o.off)
	for n := range chunks(int(o.size)) {
		end := off + chunkOverhead + chunkLen(int(o.size), n)
		p := b.buf[b.room+off : b.room+end]
		binary.BigEndian.PutUint32(p, chunkCRC(nonce, at+int64(off), p[crcSize:]))
		off = end
	}
}

func (b *segmentBatch) makeRoom(n int) {
	room := 2 * n
	buf := make([]byte, room+len(b.buf)-b.room, room+cap(b.buf))
	copy(buf[room:], b.buf[b.room:])
	b.buf, b.room = buf, room
}

// bytes is the sealed frame.
func (b *segmentBatch) bytes() []byte { return b.buf[b.room-len(b.block):] }
