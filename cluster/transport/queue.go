package transport

import (
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/storage"
)

// item is a message that waits for its peer.
type item struct {
	group storage.GroupID
	size  int // encoded
	m     *pb.Message
}

// fifo is a bounded queue.
type fifo struct {
	items           []item
	head            int
	bytes           int
	maxLen, maxSize int
}

func (f *fifo) len() int { return len(f.items) - f.head }

// push says whether there was room. One item is taken whatever its size.
func (f *fifo) push(it item) bool {
	if n := f.len(); n >= f.maxLen || n > 0 && f.bytes+it.size > f.maxSize {
		return false
	}
	if f.head > 0 && f.head >= len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, it)
	f.bytes += it.size
	return true
}

func (f *fifo) pop() item {
	it := f.items[f.head]
	f.items[f.head] = item{}
	f.head++
	f.bytes -= it.size
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return it
}

// outbox holds what waits for one peer: append messages, and apart from them
// everything else, which is small and goes first.
type outbox struct {
	mu      sync.Mutex
	control fifo
	appends fifo
	// down says that the peer could not be reached: appends, which may be large,
	// are not kept for it.
	down   bool
	closed bool
	// kept says that what waits is there for company, until flush.
	kept bool
	bell chan struct{} // wakes the writer
}

func newOutbox(c *Config) *outbox {
	return &outbox{
		control: fifo{maxLen: c.ControlMessages, maxSize: c.ControlBytes},
		appends: fifo{maxLen: c.QueuedMessages, maxSize: c.QueuedBytes},
		bell:    make(chan struct{}, 1),
	}
}

// push takes a message, or says false if it is dropped.
func (o *outbox) push(it item) bool {
	if !o.put(it) {
		return false
	}
	if !patient(it.m) {
		o.ring()
	}
	return true
}

func (o *outbox) ring() {
	select {
	case o.bell <- struct{}{}:
	default:
	}
}

// flush wakes the writer for what is kept.
func (o *outbox) flush() {
	o.mu.Lock()
	kept := o.kept
	o.kept = false
	o.mu.Unlock()
	if kept {
		o.ring()
	}
}

func (o *outbox) put(it item) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return false
	case !isAppend(it.m):
		o.kept = o.kept || patient(it.m)
		return o.control.push(it)
	case o.down:
		return false
	default:
		return o.appends.push(it)
	}
}

// take moves what waits to the end of items until these have about limit
// bytes, and says whether more is left.
func (o *outbox) take(items []item, limit int) (taken []item, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	bytes := 0
	o.kept = false
	for _, f := range []*fifo{&o.control, &o.appends} {
		for f.len() > 0 && bytes < limit && len(items) < maxMessages {
			it := f.pop()
			bytes += it.size
			items = append(items, it)
		}
	}
	return items, o.control.len()+o.appends.len() > 0
}

// setDown says whether the peer can be reached. If not, the appends that wait
// are returned: they are dropped.
func (o *outbox) setDown(down bool) (dropped []item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = down
	if down {
		dropped = o.appends.drain()
	}
	return dropped
}

// close returns everything that waits; nothing is taken from now on.
func (o *outbox) close() (dropped []item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	return append(o.control.drain(), o.appends.drain()...)
}

func (f *fifo) drain() []item {
	items := f.items[f.head:]
	f.items, f.head, f.bytes = nil, 0, 0
	return items
}

// waiting returns count and bytes of what waits.
func (o *outbox) waiting() (messages, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.control.len() + o.appends.len(), o.control.bytes + o.appends.bytes
}

func isAppend(m *pb.Message) bool { return m.GetType() == pb.MsgApp }

// patient says that a message may wait for others: a heartbeat, or its answer,
// that no reader waits for.
func patient(m *pb.Message) bool {
	t := m.GetType()
	return (t == pb.MsgHeartbeat || t == pb.MsgHeartbeatResp) && len(m.Context) == 0
}
