package repository

import (
	"encoding/binary"
	"errors"
)

var errShort = errors.New("unexpected end of data")

// decoder walks a record in place. After its first error every further read
// answers zero, so that callers check once, at the end.
type decoder struct {
	b   []byte
	off int
	err error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errShort
	}
	d.off = len(d.b)
}

func (d *decoder) more() bool { return d.err == nil && d.off < len(d.b) }

func (d *decoder) byte() byte {
	if d.off >= len(d.b) {
		d.fail()
		return 0
	}
	v := d.b[d.off]
	d.off++
	return v
}

func (d *decoder) uvarint() uint64 {
	if d.off < len(d.b) && d.b[d.off] < 0x80 { // one byte is by far the commonest
		v := d.b[d.off]
		d.off++
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b[d.off:])
	if n <= 0 {
		d.fail()
		return 0
	}
	d.off += n
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b[d.off:])
	if n <= 0 {
		d.fail()
		return 0
	}
	d.off += n
	return v
}

// maxLimit bounds what one command may ask for.
const maxLimit = 1 << 20

func (d *decoder) limit() int { return int(min(d.uvarint(), maxLimit)) }

func (d *decoder) uint32() uint32 {
	if len(d.b)-d.off < 4 {
		d.fail()
		return 0
	}
	v := binary.LittleEndian.Uint32(d.b[d.off:])
	d.off += 4
	return v
}

// bytes aliases the record.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if uint64(len(d.b)-d.off) < n {
		d.fail()
		return nil
	}
	v := d.b[d.off : d.off+int(n) : d.off+int(n)]
	d.off += int(n)
	return v
}

func appendBytes[T ~[]byte | ~string](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}
