// Package codec is the gRPC codec of server and client: the hot messages pass as
// bytes, everything else as protobuf.
//
//   - Into *PublishFrame a server reads a frame of packets without copying them
//     out of it; the frame's buffer comes from a pool and goes back with Free.
//   - *Raw sends and receives the bytes of any message as they are.
//   - Any other value must be a proto.Message.
//
// grpc-go answers a request that does not decode with INTERNAL, before any
// handler runs. The promise here is INVALID_ARGUMENT with the field's name, for
// invalid UTF-8 above all. So a server's codec does not fail: it leaves the
// message empty but for the reason, and DecodeError finds it there. A server that
// uses NewServer must use UnaryInterceptor and StreamInterceptor, or call
// DecodeError itself; else it takes such a request for an empty one.
//
// The codec is passed in with grpc.ForceServerCodecV2 and grpc.ForceCodecV2. It
// calls itself "proto", as what it speaks is just that.
package codec

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/messages/wire"
)

// Name is the content subtype: the codec is protobuf on the wire.
const Name = "proto"

var _ encoding.CodecV2 = (*Codec)(nil)

// Codec implements encoding.CodecV2. It is safe for concurrent use.
type Codec struct {
	pool     *Pool
	limits   wire.Limits
	remember bool // keep a decoding failure in the message, for DecodeError
}

// NewServer returns a codec whose failures to decode stay in the message until
// DecodeError is asked. Frames over the limits fail so, too. Buffers come from
// pool, which several codecs may share.
func NewServer(pool *Pool, limits wire.Limits) *Codec {
	return &Codec{pool: pool, limits: limits, remember: true}
}

// NewClient returns a codec that fails at once, as gRPC's own does.
func NewClient(pool *Pool) *Codec {
	return &Codec{pool: pool, limits: wire.DefaultLimits()}
}

// Name returns Name.
func (c *Codec) Name() string { return Name }

// Marshal implements encoding.CodecV2 for *Raw and proto.Message.
func (c *Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *Raw:
		return m.buffers(), nil
	case proto.Message:
		return c.marshalProto(m)
	}
	return nil, fmt.Errorf("marshal %T: not a message", v)
}

func (c *Codec) marshalProto(m proto.Message) (mem.BufferSlice, error) {
	// The size is cached in m for the marshalling right after it.
	size := proto.Size(m)
	opts := proto.MarshalOptions{UseCachedSize: true}
	if mem.IsBelowBufferPoolingThreshold(size) {
		b, err := opts.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("marshal %T: %w", m, err)
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	buf := c.pool.Get(size)
	b, err := opts.MarshalAppend((*buf)[:0], m)
	if err != nil {
		c.pool.Put(buf)
		return nil, fmt.Errorf("marshal %T: %w", m, err)
	}
	*buf = b
	return mem.BufferSlice{mem.NewBuffer(buf, c.pool)}, nil
}

// Unmarshal implements encoding.CodecV2 for *PublishFrame, *Raw and proto.Message.
func (c *Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *PublishFrame:
		return c.unmarshalFrame(data, m)
	case *Raw:
		m.fill(data)
		return nil
	case proto.Message:
		return c.unmarshalProto(data, m)
	}
	return fmt.Errorf("unmarshal %T: not a message", v)
}

func (c *Codec) unmarshalProto(data mem.BufferSlice, m proto.Message) error {
	buf := data.MaterializeToBuffer(c.pool)
	defer buf.Free()
	err := proto.Unmarshal(buf.ReadOnlyData(), m)
	switch {
	case err == nil:
		return nil
	case c.remember:
		remember(m, locate(m, buf.ReadOnlyData()))
		return nil
	}
	return fmt.Errorf("unmarshal %T: %w", m, err)
}
