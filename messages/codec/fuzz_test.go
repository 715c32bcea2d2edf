package codec_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// FuzzUnmarshal: a server's codec never fails on a message, and what protobuf
// refuses is found by DecodeError with a field's name.
func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte("\x0a\x06\x0a\x04caf\xe9"))
	f.Add([]byte("\x0a\x03\x0a\x01g\x12\x04\x2a\x02\xff\xff"))
	f.Add([]byte("\x0a\x05\x1a\x03\x0a\x01\xff"))
	f.Add([]byte("\xfa\xff\xff\xff\x0f\x03f\x00m"))
	f.Add([]byte("\xff\xff\xff"))
	c := codec.NewServer(codec.NewPoisonedPool(), wire.DefaultLimits())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, message := range []proto.Message{&waystationv1.PublishRequest{}, &waystationv1.WorkRequest{}, &waystationv1.SettleRequest{}} {
			refused := proto.Unmarshal(data, proto.Clone(message)) != nil
			if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, message); err != nil {
				t.Fatal(err)
			}
			err := codec.DecodeError(message)
			var field *wire.FieldError
			if refused && (!errors.As(err, &field) || field.Field == "" || field.Message == "") {
				t.Fatalf("%T: got %v", message, err)
			}
			if _, err := proto.Marshal(message); err != nil {
				t.Fatalf("%T is left in a state that cannot be written: %v", message, err)
			}
		}
		frame := new(codec.PublishFrame)
		if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, frame); err != nil {
			t.Fatal(err)
		}
		if codec.DecodeError(frame) != nil && (frame.Packets != nil || frame.Bytes() != 0) {
			t.Fatal("a refused frame holds memory")
		}
		frame.Free()
	})
}
