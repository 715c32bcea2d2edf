package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

// examples has a message of each kind that replicas send each other, and odd
// ones.
func examples() []*pb.Message {
	odd := message(pb.MsgAppResp, 1, 2, 1<<63)
	odd.Reject, odd.RejectHint, odd.LogTerm, odd.Vote, odd.Commit = ptr(true), ptr(uint64(7)), ptr(uint64(3)), ptr(uint64(0)), ptr(uint64(9))
	asked := heartbeat(1, 2)
	asked.Context = []byte("read 1")
	several := appendMessage(1, 2, 5, 100)
	several.Entries = append(several.Entries, &pb.Entry{Type: ptr(pb.EntryConfChangeV2), Data: []byte{}}, &pb.Entry{}, appendMessage(1, 2, 6, 9000).Entries[0])
	snap := message(pb.MsgSnap, 1, 2, 0)
	snap.Snapshot = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: ptr(uint64(4)), ConfState: &pb.ConfState{Voters: []uint64{1, 2}}}}
	nested := message(pb.MsgStorageAppend, 1, 2, 3)
	nested.Responses = []*pb.Message{odd}
	negative := &pb.Message{Type: ptr(pb.MessageType(-1)), Context: []byte{}, Entries: []*pb.Entry{{Type: ptr(pb.EntryType(-5))}}}
	return []*pb.Message{{}, heartbeat(1, 2), odd, asked, several, snap, nested, negative, message(pb.MsgTimeoutNow, 1, 2, 0), appendMessage(1, 2, 1, 0)}
}

// encode writes a frame of messages, each for the group of its number.
func encode(t testing.TB, messages []*pb.Message) []byte {
	t.Helper()
	var e encoder
	e.begin()
	for i, m := range messages {
		if err := e.add(storage.GroupID(i/2), m, sizeMessage(m)); err != nil {
			t.Fatal(err)
		}
	}
	pieces := e.end()
	frame := bytes.Join(pieces, nil)
	if len(frame) != e.size {
		t.Fatalf("%d bytes, said %d", len(frame), e.size)
	}
	return frame
}

func decode(frame []byte) ([]batch, error) {
	f := &frameReader{r: bufio.NewReaderSize(bytes.NewReader(frame), 16), limit: 1 << 20}
	h, crc, err := f.header(1 << 20)
	if err != nil {
		return nil, err
	}
	return f.messages(h, crc)
}

func TestFrameRoundTrip(t *testing.T) {
	sent := examples()
	batches, err := decode(encode(t, sent))
	if err != nil {
		t.Fatal(err)
	}
	var got []*pb.Message
	for i, b := range batches {
		if int(b.group) != i || len(b.messages) != 2 {
			t.Fatalf("batch %d: group %d, %d messages", i, b.group, len(b.messages))
		}
		got = append(got, b.messages...)
	}
	if !slices.EqualFunc(got, sent, func(a, b *pb.Message) bool { return proto.Equal(a, b) }) {
		t.Fatalf("got %v", got)
	}
}

// What was encoded by hand is what protobuf encodes, byte for byte.
func TestEncodingIsProtobufs(t *testing.T) {
	for _, m := range examples() {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := encode(t, []*pb.Message{m})[headerSize+12:]; !bytes.Equal(got, want) || sizeMessage(m) != len(want) {
			t.Errorf("%v\n got %x\nwant %x", m, got, want)
		}
	}
}

// A message must outlive the buffer that it was read into.
func TestDecodedMessagesOwnTheirBytes(t *testing.T) {
	m := appendMessage(1, 2, 1, 200)
	m.Context = []byte("context")
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var c messageCell
	if err := decodeMessage(&c, b, false); err != nil {
		t.Fatal(err)
	}
	clear(b)
	if !proto.Equal(&c.m, m) {
		t.Fatal("message changed with the buffer")
	}
}

func TestDamagedFrames(t *testing.T) {
	good := encode(t, examples())
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := decode(bad); err == nil {
			t.Fatalf("byte %d flipped, and nobody noticed", i)
		}
	}
	for i := range good {
		if _, err := decode(good[:i]); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(encode(f, examples()))
	f.Add(encode(f, nil))
	f.Add(encode(f, examples())[headerSize:])
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = decode(b)
		_, _ = decode(appendFrame(nil, frameMessages, b...)) // with the right checksum
	})
}

// FuzzMessage holds the decoding and encoding by hand against protobuf's own.
func FuzzMessage(f *testing.F) {
	for _, m := range examples() {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want pb.Message
		wantErr := proto.Unmarshal(b, &want)
		for _, owned := range []bool{false, true} {
			var c messageCell
			err := decodeMessage(&c, bytes.Clone(b), owned)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%x: %v, protobuf says %v", b, err, wantErr)
			}
			if err == nil && !proto.Equal(&c.m, &want) {
				t.Fatalf("%x: %v, protobuf says %v", b, &c.m, &want)
			}
		}
		if wantErr != nil || !known(&want) {
			return
		}
		frame := encode(t, []*pb.Message{&want})
		var again pb.Message
		if err := proto.Unmarshal(frame[headerSize+12:], &again); err != nil || !proto.Equal(&again, &want) {
			t.Fatalf("%v encoded to %v: %v", &want, &again, err)
		}
	})
}

// known says that a message has no unknown fields: raft makes none.
func known(m *pb.Message) bool {
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return false
	}
	for _, e := range m.Entries {
		if len(e.ProtoReflect().GetUnknown()) > 0 {
			return false
		}
	}
	return true
}
