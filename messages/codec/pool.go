package codec

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/waystation/waystation/messages/wire"
)

const (
	// Classes run from 1 KiB to 4 MiB, four to each doubling: a buffer is at most
	// a quarter larger than what it holds. gRPC's own pool has nothing between
	// 32 KiB and 1 MiB, where most frames are, and clears what it hands out. Larger
	// ones are single packets, rare, and too much memory to keep idle.
	minClassBits = 10
	maxClassBits = 22
	stepBits     = 2
	classes      = (maxClassBits-minClassBits)<<stepBits + 1
)

var _ mem.BufferPool = (*Pool)(nil)

// Pool keeps buffers of frames and messages for reuse. It is safe for concurrent
// use; what lies in it idle is given up to the garbage collector.
type Pool struct {
	poison  bool
	buffers [classes]sync.Pool // of *[]byte, by capacity
	packets sync.Pool          // of *[]wire.Packet
}

// NewPool returns an empty pool.
func NewPool() *Pool { return &Pool{} }

// NewPoisonedPool returns a pool for tests: a buffer is overwritten when it comes
// back, so that who still reads it sees garbage at once.
func NewPoisonedPool() *Pool { return &Pool{poison: true} }

// Get returns a buffer of the given length. Its bytes are arbitrary.
func (p *Pool) Get(length int) *[]byte {
	class, size := classOf(length)
	if class >= classes {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.buffers[class].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, size)
	return &b
}

// Put takes back a buffer from Get; nobody may use it afterwards.
func (p *Pool) Put(b *[]byte) {
	full := (*b)[:cap(*b)]
	if p.poison {
		for i := range full {
			full[i] = 0xdb
		}
	}
	if class, size := classOf(len(full)); class < classes && size == len(full) {
		*b = full
		p.buffers[class].Put(b)
	}
}

// classOf returns the smallest class that holds n bytes, and its size; from
// classes on, n is too large for any.
func classOf(n int) (class, size int) {
	if n <= 1<<minClassBits {
		return 0, 1 << minClassBits
	}
	// n lies above the power of two 1<<e and is rounded up to a multiple of step.
	e := bits.Len(uint(n-1)) - 1
	step := 1 << (e - stepBits)
	size = (n + step - 1) &^ (step - 1)
	return (e-minClassBits)<<stepBits + (size-1<<e)/step, size
}

// maxIdlePackets bounds the views that an idle slice may hold.
const maxIdlePackets = 1024

func (p *Pool) getPackets() *[]wire.Packet {
	if s, ok := p.packets.Get().(*[]wire.Packet); ok {
		return s
	}
	return new([]wire.Packet)
}

func (p *Pool) putPackets(s *[]wire.Packet) {
	if cap(*s) > maxIdlePackets {
		return
	}
	clear(*s) // or they would keep the frame's buffer alive
	*s = (*s)[:0]
	p.packets.Put(s)
}
