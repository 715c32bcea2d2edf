package route

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// link is what this node forwards to another one: packets over one stream at a
// time, in the order in which they came. A stream that breaks takes what is on
// the link with it: what was sent is of unknown outcome, what was not is refused.
// Nothing is sent twice.
type link struct {
	r    *Router
	node Node
	// The router's refusals with the node's address.
	unsent, credit, moving *actors.Refusal

	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	ended  chan struct{}
	wake   chan struct{} // one place

	mu     sync.Mutex
	closed bool
	down   time.Time // no stream is tried before
	frames []*frame  // to be sent; the last one is being filled
	slots  slots
	sent   uint64 // ordinals that were given to the stream
	ahead  int    // frames sent since the last answer came
	flying []load // by partition
	asked  time.Time
}

// load is what is on a link for one partition.
type load struct{ packets, bytes int }

// frame is packets on their way, encoded.
type frame struct {
	buf     *[]byte
	packets int
}

func (r *Router) newLink(n Node) *link {
	l := &link{
		unsent: naming(refusedUnsent, n.GRPCAddr), credit: naming(refusedCredit, n.GRPCAddr), moving: naming(refusedMoving, n.GRPCAddr),
		r: r, node: n, ended: make(chan struct{}), wake: make(chan struct{}, 1), flying: make([]load, r.cfg.Partitions),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.run()
	return l
}

// packetOverhead is charged for each packet beside its bytes.
const packetOverhead = 64

// put takes packets over, copying them, and appends those to refused that it does
// not take.
func (l *link) put(list []parcel, sink actors.Sink, refused []actors.PublishResult) []actors.PublishResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	why := (*actors.Refusal)(nil)
	if l.closed || !l.down.IsZero() && time.Now().Before(l.down) {
		why = l.unsent
	} else if l.slots.open == 0 {
		l.asked = time.Now()
	}
	for i := range list {
		p := &list[i]
		n := len(p.raw) + packetOverhead
		f := &l.flying[p.partition]
		no := why
		if no == nil && (l.slots.open >= l.r.cfg.LinkPackets ||
			f.packets > 0 && (f.packets >= l.r.cfg.CreditPackets || f.bytes+n > l.r.cfg.CreditBytes)) {
			no = l.credit
		}
		if no != nil {
			refused = append(refused, actors.PublishResult{Index: p.index, Repo: p.repo, ID: p.id, Refusal: no})
			continue
		}
		f.packets++
		f.bytes += n
		l.slots.add(slot{sink: sink, index: p.index, bytes: n, partition: p.partition})
		l.encode(p.raw)
	}
	l.nudge()
	return refused
}

// nudge has the sender look. The caller holds l.mu.
func (l *link) nudge() {
	if len(l.frames) == 0 {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// packetKey is the key of PublishStreamRequest.packets.
const packetKey = 1<<3 | byte(protowire.BytesType)

// encode appends a packet to the frame that is being filled. The caller holds l.mu.
func (l *link) encode(raw []byte) {
	size := 1 + protowire.SizeBytes(len(raw))
	var f *frame
	if n := len(l.frames); n > 0 {
		f = l.frames[n-1]
	}
	if f == nil || f.packets >= l.r.cfg.Limits.FramePackets || len(*f.buf)+size > l.r.cfg.FrameBytes {
		f = &frame{buf: l.r.buffers.Get(max(size, firstFrame))}
		*f.buf = (*f.buf)[:0]
		l.frames = append(l.frames, f)
	}
	if have := len(*f.buf); have+size > cap(*f.buf) {
		bigger := l.r.buffers.Get(max(2*have, have+size))
		*bigger = append((*bigger)[:0], *f.buf...)
		l.r.buffers.Put(f.buf)
		f.buf = bigger
	}
	*f.buf = protowire.AppendBytes(append(*f.buf, packetKey), raw)
	f.packets++
}

// firstFrame is the room of a frame that has just begun.
const firstFrame = 16 << 10

// A small frame is held back while maxAhead frames have no answer, for no longer
// than maxHold: the packets of all streams that come here make one frame for the
// node then. Without that, each client's frame makes one for each node.
const (
	maxAhead = 2
	minFrame = 64
	maxHold  = 500 * time.Microsecond
)

// take returns the next frame to send; nil when there is none, or held when it is
// to wait for more packets or an answer, unless it has waited.
func (l *link) take(waited bool) (f *frame, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.frames) == 0 {
		return nil, false
	}
	f = l.frames[0]
	if !waited && len(l.frames) == 1 && f.packets < minFrame && l.ahead >= maxAhead {
		return nil, true
	}
	l.frames[0] = nil
	if l.frames = l.frames[1:]; len(l.frames) == 0 {
		l.frames = nil
	}
	l.sent += uint64(f.packets)
	l.ahead++
	return f, false
}

// release takes an answered packet off the partition's load. The caller holds l.mu.
func (l *link) release(s *slot) {
	f := &l.flying[s.partition]
	f.packets--
	f.bytes -= s.bytes
}

// load says how many packets of a partition have no answer.
func (l *link) load(p repository.PartitionID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flying[p].packets
}

// abandon answers what is in flight to a partition as unknown: another node leads
// it, and this one has had its time.
func (l *link) abandon(p repository.PartitionID) {
	var out answers
	l.mu.Lock()
	l.slots.drain(func(ordinal uint64, s *slot) bool {
		if s.partition != p {
			return false
		}
		l.refuse(&out, ordinal, s)
		return true
	})
	l.mu.Unlock()
	out.give()
}

// refuse answers a packet that will not be answered any more by the node. The
// caller holds l.mu.
func (l *link) refuse(out *answers, ordinal uint64, s *slot) {
	why := l.unsent
	if ordinal < l.sent {
		why = refusedUnknown
	}
	out.add(s.sink, actors.PublishResult{Index: s.index, Refusal: why})
	l.release(s)
}

// lost answers everything on the link, as its stream broke, and lets no other
// stream begin for a while.
func (l *link) lost(wait time.Duration) {
	var out answers
	l.mu.Lock()
	l.slots.drain(func(ordinal uint64, s *slot) bool {
		l.refuse(&out, ordinal, s)
		return true
	})
	l.slots.reset()
	for _, f := range l.frames {
		l.r.buffers.Put(f.buf)
	}
	l.frames, l.sent, l.ahead = nil, 0, 0
	l.down = time.Now().Add(wait)
	l.mu.Unlock()
	out.give()
}

// close ends the link and waits for it.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	<-l.ended
}
