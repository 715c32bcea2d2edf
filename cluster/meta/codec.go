package meta

import (
	"encoding/binary"
	"errors"
)

var errBroken = errors.New("broken encoding")

const version1 = 1

// names are at most this long, so that a byte holds their length.
const maxName = 255

func appendName(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// decoder reads what was appended. After a fault it returns zeros; end tells.
type decoder struct {
	b   []byte
	bad bool
}

// decode begins behind the version, which must be the one that is known.
func decode(b []byte) *decoder {
	d := &decoder{b: b}
	if d.u8() != version1 {
		d.bad = true
	}
	return d
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

// oneOf reads a byte that lies within from and to.
func (d *decoder) oneOf(from, to byte) byte {
	v := d.u8()
	if v < from || v > to {
		d.bad = true
	}
	return v
}

func (d *decoder) bool() bool { return d.oneOf(0, 1) == 1 }

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) id() (id [16]byte) {
	copy(id[:], d.take(len(id)))
	return id
}

func (d *decoder) name() string { return string(d.take(int(d.u8()))) }

// bytes returns a copy.
func (d *decoder) bytes() []byte {
	n := d.u32()
	if int64(n) > int64(len(d.b)) {
		d.bad = true
		return nil
	}
	return append([]byte{}, d.take(int(n))...)
}

// end says whether everything was there and nothing more.
func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errBroken
	}
	return nil
}
