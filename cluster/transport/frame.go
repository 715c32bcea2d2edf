package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame is
//
//	length u32   of the body
//	kind   u8
//	zero   3 bytes
//	crc    u32   CRC32C of the eight bytes before and of the body
//	body
//
// and every number that is not inside of a message is big endian.
const headerSize = 12

// maxBody bounds every body, whatever is configured.
const maxBody = 256 << 20

type frameKind uint8

const (
	// frameMessages: count u32, then count times group u32, size u32, message.
	frameMessages frameKind = 1
	// framePing and framePong: pulses, see pulse.go.
	framePing frameKind = 2
	framePong frameKind = 3
	// frameSnapHeader: group u32, then the message.
	frameSnapHeader frameKind = 4
	// frameSnapChunk: bytes of the body.
	frameSnapChunk frameKind = 5
	// frameSnapEnd: length of the body u64, its CRC32C u32.
	frameSnapEnd frameKind = 6
	// frameSnapAbort: why the sender gave up, text.
	frameSnapAbort frameKind = 7
	// frameSnapAnswer: code u8 (0 is success), text.
	frameSnapAnswer frameKind = 8
	// frameWorking says that the sender is alive and has nothing to say.
	frameWorking frameKind = 9
)

// errFrame says that what came is no frame, or a damaged one.
var errFrame = errors.New("bad frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	size int
	kind frameKind
	crc  uint32
}

// putHeader fills the header in front of a body whose CRC continues what
// seedHeader returned.
func putHeader(b []byte, kind frameKind, size int) (crcSeed uint32) {
	binary.BigEndian.PutUint32(b, uint32(size))
	binary.BigEndian.PutUint32(b[4:], uint32(kind)<<24)
	return crc32.Update(0, castagnoli, b[:8])
}

// parseHeader reads a header. limit is the largest body that is acceptable.
func parseHeader(b []byte, limit int) (h header, crcSeed uint32, err error) {
	size := binary.BigEndian.Uint32(b)
	if uint64(size) > uint64(limit) {
		return h, 0, fmt.Errorf("%w: %d bytes, %d are the most", errFrame, size, limit)
	}
	if b[5]|b[6]|b[7] != 0 {
		return h, 0, fmt.Errorf("%w: header %x", errFrame, b[:headerSize])
	}
	h = header{size: int(size), kind: frameKind(b[4]), crc: binary.BigEndian.Uint32(b[8:])}
	return h, crc32.Update(0, castagnoli, b[:8]), nil
}

// appendFrame appends a whole frame: for small ones.
func appendFrame(b []byte, kind frameKind, body ...byte) []byte {
	at := len(b)
	b = append(b, make([]byte, headerSize)...)
	crc := putHeader(b[at:], kind, len(body))
	binary.BigEndian.PutUint32(b[at+8:], crc32.Update(crc, castagnoli, body))
	return append(b, body...)
}

// readFrame reads a small frame into buf, which it may replace.
func readFrame(r io.Reader, buf []byte, limit int) (kind frameKind, body []byte, err error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	h, crc, err := parseHeader(head[:], limit)
	if err != nil {
		return 0, nil, err
	}
	return readBody(r, h, crc, buf)
}

func readBody(r io.Reader, h header, crc uint32, buf []byte) (frameKind, []byte, error) {
	if cap(buf) < h.size {
		buf = make([]byte, h.size)
	}
	body := buf[:h.size]
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, noEOF(err)
	}
	if crc32.Update(crc, castagnoli, body) != h.crc {
		return 0, nil, fmt.Errorf("%w: checksum differs, kind %d, %d bytes", errFrame, h.kind, h.size)
	}
	return h.kind, body, nil
}

// noEOF is for reads in the midst of something.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
