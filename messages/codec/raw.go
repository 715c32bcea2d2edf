package codec

import (
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// Raw is a message as bytes, for SendMsg, RecvMsg and Invoke.
//
// Sending: the message is Bytes followed by Parts, none of them copied. gRPC may
// read them after SendMsg has returned: they must never change again, or not
// until Release has been called.
//
// Receiving: Bytes is set, in its own memory when its capacity is enough, else
// in new memory. Set it to nil before to keep what was received last.
type Raw struct {
	// Bytes is the message, or its beginning.
	Bytes []byte
	// Parts follow Bytes: for packets that are sent from where they lie.
	Parts [][]byte
	// Release, when set, is called once, when gRPC has let go of the bytes, from
	// any goroutine. A connection that breaks may never call it: count nothing by it.
	Release func()
}

func (r *Raw) buffers() mem.BufferSlice {
	if r.Release == nil {
		out := make(mem.BufferSlice, 0, 1+len(r.Parts))
		out = append(out, mem.SliceBuffer(r.Bytes))
		for _, part := range r.Parts {
			out = append(out, mem.SliceBuffer(part))
		}
		return out
	}
	lease := &lease{release: r.Release}
	lease.open.Store(1) // until all are counted
	out := make(mem.BufferSlice, 0, 1+len(r.Parts))
	out = append(out, lease.buffer(r.Bytes))
	for _, part := range r.Parts {
		out = append(out, lease.buffer(part))
	}
	lease.done()
	return out
}

func (r *Raw) fill(data mem.BufferSlice) {
	n := data.Len()
	if cap(r.Bytes) < n {
		r.Bytes = make([]byte, n)
	}
	r.Bytes = r.Bytes[:n]
	data.CopyTo(r.Bytes)
	r.Parts = nil
}

// lease counts the buffers of one Raw that gRPC still holds, as their pool.
type lease struct {
	open    atomic.Int64
	release func()
}

// buffer copies what mem.NewBuffer would not count because it is small.
func (l *lease) buffer(b []byte) mem.Buffer {
	if mem.IsBelowBufferPoolingThreshold(cap(b)) {
		return mem.SliceBuffer(append([]byte(nil), b...))
	}
	l.open.Add(1)
	return mem.NewBuffer(&b, l)
}

func (l *lease) done() {
	if l.open.Add(-1) == 0 {
		l.release()
	}
}

// Get is never called: nothing is taken from a lease.
func (l *lease) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put is called by the buffer once its last reference is gone.
func (l *lease) Put(*[]byte) { l.done() }
