package codec

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"google.golang.org/grpc/mem"

	"github.com/waystation/waystation/messages/wire"
)

var errFrameInUse = errors.New("unmarshal frame: the last one was not freed")

// PublishFrame is one PublishStreamRequest, for ServerStream.RecvMsg. Use a new
// one for each frame: it changes hands with its packets. A PublishRequest has the
// same bytes as a frame of one packet, and can be received as one.
type PublishFrame struct {
	// Packets alias the frame's buffer: nothing of them may be used after Free.
	Packets []wire.Packet

	reason *wire.FieldError
	held   atomic.Pointer[held]
}

// held is what goes back to the pool.
type held struct {
	pool    *Pool
	buf     *[]byte
	packets *[]wire.Packet
}

// Bytes returns the memory that the frame takes until Free, in bytes: what a
// budget should be charged with. The views count too, for many packets of a few
// bytes are mostly views. After Free it is 0.
func (f *PublishFrame) Bytes() int {
	h := f.held.Load()
	if h == nil {
		return 0
	}
	return cap(*h.buf) + len(*h.packets)*int(unsafe.Sizeof(wire.Packet{}))
}

// Free gives the buffer back. It may be called from any goroutine, and more than
// once; the packets must not be used from the first call on.
func (f *PublishFrame) Free() {
	h := f.held.Swap(nil)
	if h == nil {
		return
	}
	f.Packets = nil
	h.pool.putPackets(h.packets)
	h.pool.Put(h.buf)
}

// unmarshalFrame always copies. gRPC delivers a frame in pieces of 16 KiB, and a
// piece that lies in one buffer shares it with its neighbours on the connection:
// keeping that would pin up to 16 KiB for a packet of a few bytes.
func (c *Codec) unmarshalFrame(data mem.BufferSlice, f *PublishFrame) error {
	if f.held.Load() != nil {
		return errFrameInUse
	}
	h := &held{pool: c.pool, buf: c.pool.Get(data.Len()), packets: c.pool.getPackets()}
	data.CopyTo(*h.buf)
	packets, err := c.limits.WalkFrame(*h.buf, (*h.packets)[:0])
	*h.packets = packets
	f.held.Store(h)
	f.Packets, f.reason = packets, nil
	if err == nil {
		return nil
	}
	f.Free()
	if !c.remember || !errors.As(err, &f.reason) {
		return err
	}
	return nil
}
