package transport

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

func testHello() Hello {
	return Hello{
		Version: 3, Oldest: 2, Cluster: meta.ClusterID{1}, Node: identity.NodeID{2}, Boot: 4, Life: 1 << 63, Name: "n",
		Feature: 5, Format: 6, Wall: -7, Dialled: identity.NodeID{8}, Lane: LaneSnapshot,
	}
}

func TestHelloRoundTrip(t *testing.T) {
	h := testHello()
	later := appendBytes(appendNumber(h.append(nil), 90, 1), 91, []byte("of a later build"))
	got, err := parseHello(later)
	if err != nil || got != h {
		t.Fatalf("%+v: %v", got, err)
	}
	refused := refusal(fmt.Errorf("%w: because", ErrRemoved))
	own, r, err := parseAnswer(appendAnswer(nil, refused, h))
	if err != nil || own != h || !errors.Is(r, ErrRemoved) || r.Text != refused.Text {
		t.Fatalf("%+v %v: %v", own, r, err)
	}
	if own, r, err = parseAnswer(appendAnswer(nil, nil, h)); err != nil || own != h || r != nil {
		t.Fatalf("%+v %v: %v", own, r, err)
	}
	if h, r, err = parseAnswer(appendNumber(appendAnswer(nil, nil, h), answerCode, 1<<40)); err != nil || !errors.Is(r, ErrRefused) {
		t.Fatalf("a later build's refusal: %v %v %v", h, r, err)
	}
}

// Builds of any version must understand each other's hellos, and a cluster is
// upgraded node by node: what is written today stays readable.
func TestGoldenBytes(t *testing.T) {
	var b bytes.Buffer
	h := testHello()
	if err := writeBlock(&b, magic[:], h.append(nil)); err != nil {
		t.Fatal(err)
	}
	const hello = "57415953544e00010000005b8aa75223080310021a1001000000000000000000000000000000221002000000000000000000000000000000280430808080808080808080013a016e4005480650f9ffffffffffffffff015a10080000000000000000000000000000006002"
	if got := hex.EncodeToString(b.Bytes()); got != hello {
		t.Errorf("hello\n%s, want\n%s", got, hello)
	}
	const answer = "08051201781a48080110001a1000000000000000000000000000000000221000000000000000000000000000000000280030003a004000480050005a10000000000000000000000000000000006000"
	if got := hex.EncodeToString(appendAnswer(nil, &Refusal{Code: refusedCopied, Text: "x"}, Hello{Version: 1})); got != answer {
		t.Errorf("answer\n%s, want\n%s", got, answer)
	}
	const frame = "000000240100000033f3e2ed000000010000000000000018080310021801200130033a0c080010011804220403040506"
	if got := hex.EncodeToString(encode(t, []*pb.Message{appendMessage(1, 2, 3, 4)})); got != frame {
		t.Errorf("frame\n%s, want\n%s", got, frame)
	}
	const ping = "00000018020000008672ff09000000000000000100000000000000020000000000000003"
	if got := hex.EncodeToString(appendPulse(nil, framePing, pulse{1, 2, 3})); got != ping {
		t.Errorf("ping\n%s, want\n%s", got, ping)
	}
}

func TestBadHellos(t *testing.T) {
	h := testHello()
	good := h.append(nil)
	nobody, long := h, h
	nobody.Node, long.Name = identity.NodeID{}, strings.Repeat("x", maxName+1)
	for name, b := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "no node": nobody.append(nil), "long name": long.append(nil),
		"short id": appendBytes(bytes.Clone(good), helloCluster, []byte{1}), "lane": appendNumber(bytes.Clone(good), helloLane, 256),
	} {
		if _, err := parseHello(b); !errors.Is(err, errHello) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := parseAnswer(nil); !errors.Is(err, errHello) {
		t.Errorf("empty answer: %v", err)
	}
}

func TestBlocks(t *testing.T) {
	var b bytes.Buffer
	if err := writeBlock(&b, nil, []byte("body")); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(b.Bytes())
	if got, err := readBlock(&b); err != nil || string(got) != "body" {
		t.Fatalf("%q: %v", got, err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if _, err := readBlock(bytes.NewReader(bad)); err == nil {
			t.Errorf("byte %d flipped, and nobody noticed", i)
		}
	}
	if _, err := readBlock(bytes.NewReader([]byte{0, 1, 0, 1, 0, 0, 0, 0})); !errors.Is(err, errHello) {
		t.Errorf("over 64 KiB: %v", err)
	}
}

func TestRefusalsKeepTheirReason(t *testing.T) {
	for code, reason := range reasons() {
		if reason == nil {
			continue
		}
		r := refusal(fmt.Errorf("admit: %w: more", reason))
		if int(r.Code) != code || !errors.Is(r, reason) {
			t.Errorf("%v has code %d", reason, r.Code)
		}
	}
	if r := refusal(errors.New("no room")); !errors.Is(r, ErrRefused) || !strings.Contains(r.Error(), "no room") {
		t.Errorf("%v", r)
	}
}

func FuzzHello(f *testing.F) {
	h := testHello()
	f.Add(h.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			return
		}
		if again, err := parseHello(h.append(nil)); err != nil || again != h {
			t.Fatalf("%+v came back as %+v: %v", h, again, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, &Refusal{Code: 2, Text: "x"}, testHello()))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parseAnswer(b) })
}

func FuzzBlock(f *testing.F) {
	var b bytes.Buffer
	if err := writeBlock(&b, nil, []byte("body")); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = readBlock(bytes.NewReader(b)) })
}
