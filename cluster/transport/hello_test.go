package transport

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

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
