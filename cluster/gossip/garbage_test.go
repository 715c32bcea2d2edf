package gossip

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// garbage makes what strangers send: noise, noise behind the right label, foreign
// protocols, and messages of memberlist's kinds with nonsense in them.
func garbage(rng *rand.Rand) []byte {
	noise := make([]byte, 1+rng.IntN(600))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	switch rng.IntN(6) {
	case 0:
		return noise
	case 1:
		return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	case 2:
		return append([]byte(helloMagic), noise...)
	case 3: // lengths of four gigabytes
		b := append([]byte{byte(rng.IntN(14))}, 0xdb, 0xff, 0xff, 0xff, 0xff)
		return labelled(append(b, noise...))
	}
	return labelled(append([]byte{byte(rng.IntN(14))}, noise...))
}

func labelled(b []byte) []byte {
	out, err := memberlist.AddLabelHeaderToPacket(b, "test")
	if err != nil {
		panic(err)
	}
	return out
}

// Garbage on the port is counted, and the members go on as if nothing was.
func TestGarbage(t *testing.T) {
	for name, option := range map[string]option{"plain": func(*Config) {}, "with a key": keys(keyFile(t, 1))} {
		t.Run(name, func(t *testing.T) {
			a, b := start(t, 1, option), start(t, 2, option)
			join(t, b, a)
			rng := rand.New(rand.NewPCG(1, 2))
			packets, err := net.Dial("udp", a.Address().String())
			if err != nil {
				t.Fatal(err)
			}
			defer packets.Close()
			for range 2000 {
				if _, err := packets.Write(garbage(rng)); err != nil {
					t.Fatal(err)
				}
			}
			for range 200 {
				send(t, a, garbage(rng))
			}
			await(t, "garbage is counted", func() bool {
				refused := count(t, a, "refused_total", "label")
				if name == "plain" {
					return refused > 0 && count(t, a, "refused_total", "malformed") > 0
				}
				return refused > 0 && count(t, a, "refused_total", "key") > 0
			})
			c := start(t, 3, option)
			join(t, c, a)
			for _, g := range []*Gossip{a, b, c} {
				await(t, "the three see each other", func() bool {
					for _, id := range []byte{1, 2, 3} {
						if _, ok := find(g, id); !ok {
							return false
						}
					}
					return true
				})
			}
		})
	}
}

// send writes to g's stream port and reads until it is closed.
func send(t *testing.T, g *Gossip, b []byte) {
	t.Helper()
	c, err := net.Dial("tcp", g.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write(b) // it may hang up before all is written
	_ = c.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, c)
}

// A well-formed member with a record that is not ours must not become one.
func TestForeignRecordIsRefused(t *testing.T) {
	a := start(t, 1)
	c := memberlist.DefaultLocalConfig()
	c.Name, c.Label, c.BindAddr, c.BindPort = "stranger", "test", "127.0.0.1", 0
	c.Logger = newBridge(slog.New(slog.DiscardHandler), func(string) {}).logger()
	stranger, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Shutdown() }()
	if _, err := stranger.Join([]string{a.Address().String()}); err != nil {
		t.Fatal(err)
	}
	await(t, "the record is refused", func() bool { return count(t, a, "refused_total", "member") > 0 })
	if len(a.Members()) != 1 {
		t.Fatalf("members: %v", a.Members())
	}
}

// Idle streams are bounded, and end with Stop.
func TestStreamsAreBounded(t *testing.T) {
	g := start(t, 1)
	var open []net.Conn
	for range maxStreams + 20 {
		c, err := net.Dial("tcp", g.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	await(t, "streams are refused", func() bool { return count(t, g, "refused_total", "streams") >= 20 })
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, c := range open {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a stream is still open:", err)
		}
	}
}

// Stop does not wait for a peer that has stopped reading or answering.
func TestStopWithASilentPeer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	g := start(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if _, err := g.Join(ctx, []string{silent.Addr().String()}); err == nil {
			t.Error("silence was joined")
		}
	})
	c, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	cancel()
	tasks.Wait()
}

func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	refused := map[string]int{}
	b := newBridge(slog.New(slog.NewTextHandler(&out, nil)), func(reason string) { refused[reason]++ })
	l := b.logger()
	for range 3 * noteBurst {
		l.Printf("[ERR] memberlist: Decrypt packet failed: %v", io.EOF)
	}
	l.Printf("[DEBUG] memberlist: nobody wants to know")
	l.Printf("[INFO] memberlist: something")
	l.Printf("no level at all")
	l.Printf("[ERR] memberlist: discarding stream with unacceptable label %q", "x")
	text := out.String()
	if n := strings.Count(text, "Decrypt packet failed"); n != noteBurst {
		t.Errorf("%d lines passed, want %d", n, noteBurst)
	}
	if strings.Contains(text, "nobody") || !strings.Contains(text, "level=INFO") || strings.Contains(text, "memberlist: ") {
		t.Error(text)
	}
	if refused["key"] != 3*noteBurst || refused["label"] != 1 || len(refused) != 2 {
		t.Errorf("counted: %v", refused)
	}
	b.end()
	l.Printf("[ERR] memberlist: too late")
	if strings.Contains(out.String(), "too late") {
		t.Error("a line after the end")
	}
}

func FuzzDecodeMeta(f *testing.F) {
	b, _ := Meta{Node: node(1), Boot: 300, State: Serving, Level: 1, Expect: 3, Name: "n", Zone: "z", GRPC: "127.0.0.1:1"}.Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeMeta(again); err != nil || back != m {
			t.Fatalf("%+v came back as %+v: %v", m, back, err)
		}
	})
}

func FuzzHello(f *testing.F) {
	h := hello{node: node(1), label: "x", keys: []fingerprint{{1}, {2}}}
	f.Add(h.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseHello(b)
		if !ok {
			return
		}
		if got := h.append(nil); b[0] == helloVersion && !bytes.HasPrefix(b, got) {
			t.Fatalf("%x came back as %x", b, got)
		}
		framed := binary.BigEndian.AppendUint16([]byte(helloMagic), uint16(len(b)))
		if len(b) <= helloMost {
			if _, err := readHello(bytes.NewReader(append(framed, b...))); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What a later version appends to a record is passed over.
func TestMetaOfALaterVersion(t *testing.T) {
	m := Meta{Node: node(1), Name: "n"}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b[0] = metaVersion + 1
	if got, err := DecodeMeta(append(b, 1, 2, 3)); err != nil || got != m {
		t.Fatalf("%+v, %v", got, err)
	}
	for n := range b {
		if _, err := DecodeMeta(b[:n]); err == nil {
			t.Fatalf("%d bytes of %d were taken", n, len(b))
		}
	}
}
