package codec

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/waystation/waystation/messages/wire"
)

// reasonField is the unknown field that carries the reason in a message that did
// not decode: the last number there is, which no message of ours uses. Who sends
// it himself gets back the error that he wrote, and nothing else.
const reasonField = protowire.MaxValidNumber

// DecodeError returns why msg did not decode, a *wire.FieldError, or nil. It does
// not know of messages over grpc.MaxRecvMsgSize: these grpc answers itself, with
// RESOURCE_EXHAUSTED and before any interceptor. A server whose promise is
// INVALID_ARGUMENT sets that option well above wire.Limits.MessageBytes.
func DecodeError(msg any) error {
	switch m := msg.(type) {
	case *PublishFrame:
		if m.reason != nil {
			return m.reason
		}
	case proto.Message:
		if unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0 {
			return recall(unknown)
		}
	}
	return nil
}

// UnaryInterceptor refuses what did not decode. status maps a *wire.FieldError to
// a gRPC status.
func UnaryInterceptor(status func(error) error) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if err := DecodeError(req); err != nil {
			return nil, status(err)
		}
		return handle(ctx, req)
	}
}

// StreamInterceptor lets RecvMsg fail on what did not decode, with what status
// makes of the *wire.FieldError.
func StreamInterceptor(status func(error) error) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		return handle(srv, &checkedStream{ServerStream: stream, status: status})
	}
}

type checkedStream struct {
	grpc.ServerStream
	status func(error) error
}

func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if err := DecodeError(m); err != nil {
		return s.status(err)
	}
	return nil
}

func remember(m proto.Message, reason *wire.FieldError) {
	proto.Reset(m)
	unknown := protowire.AppendTag(nil, reasonField, protowire.BytesType)
	unknown = protowire.AppendString(unknown, reason.Field+"\x00"+reason.Message)
	m.ProtoReflect().SetUnknown(unknown)
}

func recall(unknown []byte) error {
	number, kind, n := protowire.ConsumeTag(unknown)
	if n < 0 || number != reasonField || kind != protowire.BytesType {
		return nil
	}
	reason, m := protowire.ConsumeString(unknown[n:])
	if m < 0 {
		return nil
	}
	field, message, ok := strings.Cut(reason, "\x00")
	if !ok {
		return nil
	}
	return &wire.FieldError{Field: strings.ToValidUTF8(field, "\uFFFD"), Message: strings.ToValidUTF8(message, "\uFFFD")}
}

// locate finds out, on the way of failure only, what protobuf's error says in
// prose: the path of the first string that is not UTF-8, or of the innermost
// message that is broken.
func locate(m proto.Message, data []byte) *wire.FieldError {
	found := locateIn(m.ProtoReflect().Descriptor(), data, "")
	if found == nil {
		return notProtobuf("")
	}
	// A packet's fields have one name, whichever call it came with: wire's.
	found.Field = strings.TrimPrefix(found.Field, "packet.")
	return found
}

func notProtobuf(path string) *wire.FieldError {
	if path == "" {
		path = "request"
	}
	return &wire.FieldError{Field: path, Message: "is not a valid protobuf message"}
}

func locateIn(md protoreflect.MessageDescriptor, data []byte, path string) *wire.FieldError {
	seen := map[protoreflect.FieldNumber]int{}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return notProtobuf(path)
		}
		size := protowire.ConsumeFieldValue(number, kind, data[n:])
		if size < 0 {
			return notProtobuf(path)
		}
		value := data[n : n+size]
		data = data[n+size:]
		fd := md.Fields().ByNumber(number)
		if fd == nil || kind != protowire.BytesType {
			continue
		}
		value, _ = protowire.ConsumeBytes(value)
		if found := locateField(fd, value, join(path, fd, seen[number])); found != nil {
			return found
		}
		seen[number]++
	}
	return nil
}

func locateField(fd protoreflect.FieldDescriptor, value []byte, path string) *wire.FieldError {
	switch {
	case fd.Kind() == protoreflect.StringKind && !utf8.Valid(value):
		return &wire.FieldError{Field: path, Message: "is not valid UTF-8"}
	case fd.IsMap():
		// The pair has no field of its own that a caller would know.
		if found := locateIn(fd.Message(), value, path); found != nil {
			return &wire.FieldError{Field: path, Message: found.Message}
		}
	case fd.Kind() == protoreflect.MessageKind:
		return locateIn(fd.Message(), value, path)
	}
	return nil
}

func join(path string, fd protoreflect.FieldDescriptor, index int) string {
	name := string(fd.Name())
	if fd.IsList() {
		name = fmt.Sprintf("%s[%d]", name, index)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
