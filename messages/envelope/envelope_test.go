package envelope_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/waystation/waystation/messages/envelope"
)

// golden is durable format: a change here makes data folders unreadable.
const golden = "01" + "07" + "0102030405060708" + "1112131415161718" + "fffffffffffffffe"

var sample = envelope.Envelope{
	Version: envelope.Version1, Kind: 7,
	Term: 0x0102030405060708, Proposal: 0x1112131415161718, TimeMs: -2,
}

func TestPutWritesTheGoldenBytes(t *testing.T) {
	data := make([]byte, envelope.Size)
	sample.Put(data)
	if got := hex.EncodeToString(data); got != golden {
		t.Fatalf("got %s, want %s", got, golden)
	}
}

func TestPutTouchesOnlyItsSize(t *testing.T) {
	data := bytes.Repeat([]byte{0xee}, envelope.Size+4)
	sample.Put(data)
	if !bytes.Equal(data[envelope.Size:], []byte{0xee, 0xee, 0xee, 0xee}) {
		t.Fatalf("body overwritten: %x", data[envelope.Size:])
	}
}

func TestParse(t *testing.T) {
	data, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	env, body, err := envelope.Parse(append(data, "body"...))
	if err != nil || env != sample || string(body) != "body" {
		t.Fatalf("got %+v, %q, %v", env, body, err)
	}
	if _, body, err = envelope.Parse(data); err != nil || len(body) != 0 {
		t.Fatalf("empty body: %q, %v", body, err)
	}
}

func TestParseRefuses(t *testing.T) {
	full := make([]byte, envelope.Size)
	for _, tc := range []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, envelope.ErrShort},
		{"one byte short", full[:envelope.Size-1], envelope.ErrShort},
		{"version 0", full, envelope.ErrVersion},
		{"version 2", append([]byte{2}, full[1:]...), envelope.ErrVersion},
	} {
		if _, _, err := envelope.Parse(tc.data); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, _ := hex.DecodeString(golden)
	f.Add(data)
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		env, body, err := envelope.Parse(data)
		if err != nil {
			return
		}
		again := make([]byte, envelope.Size, len(data))
		env.Put(again)
		if !bytes.Equal(append(again, body...), data) {
			t.Fatalf("%x does not survive a round trip", data)
		}
	})
}
