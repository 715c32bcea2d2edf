package gossip

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/waystation/waystation/cluster/identity"
)

// A hello is the magic, a version and a nonce. Its answer is the magic, the
// length u16 of what follows, and then: version u8, node id 16 bytes, instance
// 8 bytes, label behind its length u8, the number of keys u8 and for each, the
// one that encrypts first, 16 bytes of HMAC-SHA256(key, nonce). What a later
// version appends is ignored.
//
// No message of memberlist begins with the magic's first byte.
const (
	helloMagic   = "WSGH"
	helloVersion = 1
	nonceBytes   = 16
	printBytes   = 16
	helloMost    = 4096
	helloTimeout = 5 * time.Second
)

type nonce [nonceBytes]byte

type fingerprint [printBytes]byte

// hello is what a node answers.
type hello struct {
	node     identity.NodeID
	instance [8]byte // random in each start, so that a node knows itself
	label    string
	keys     []fingerprint
}

func prints(keys [][]byte, n nonce) []fingerprint {
	out := make([]fingerprint, 0, len(keys))
	for _, k := range keys {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte("waystation gossip key"))
		mac.Write(n[:])
		out = append(out, fingerprint(mac.Sum(nil)))
	}
	return out
}

func (h hello) append(b []byte) []byte {
	b = append(b, helloVersion)
	b = append(b, h.node[:]...)
	b = append(b, h.instance[:]...)
	b = append(b, byte(len(h.label)))
	b = append(b, h.label...)
	b = append(b, byte(len(h.keys)))
	for _, k := range h.keys {
		b = append(b, k[:]...)
	}
	return b
}

func parseHello(b []byte) (hello, bool) {
	var h hello
	take := func(n int) []byte {
		if n > len(b) {
			b = nil
			return make([]byte, n)
		}
		part := b[:n]
		b = b[n:]
		return part
	}
	whole := len(b) >= 1+16+8+1
	if !whole || take(1)[0] < helloVersion {
		return hello{}, false
	}
	copy(h.node[:], take(16))
	copy(h.instance[:], take(8))
	n := int(take(1)[0])
	if n+1 > len(b) {
		return hello{}, false
	}
	h.label = string(take(n))
	n = int(take(1)[0])
	if n > 2*maxKeys || n*printBytes > len(b) {
		return hello{}, false
	}
	for range n {
		h.keys = append(h.keys, fingerprint(take(printBytes)))
	}
	return h, !h.node.IsZero()
}

// ask says hello to addr. A stranger's answer is ErrForeign.
func (t *transport) ask(ctx context.Context, addr string, n nonce) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	c, err := t.dial(ctx, addr)
	if err != nil {
		return hello{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := append([]byte(helloMagic), helloVersion)
	if _, err := c.Write(append(request, n[:]...)); err != nil {
		return hello{}, err
	}
	h, err := readHello(c)
	if err != nil && ctx.Err() != nil {
		return hello{}, fmt.Errorf("%w: connected, but there was no answer", ctx.Err())
	}
	return h, err
}

func readHello(r io.Reader) (hello, error) {
	var head [len(helloMagic) + 2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return hello{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	size := int(binary.BigEndian.Uint16(head[len(helloMagic):]))
	if !bytes.HasPrefix(head[:], []byte(helloMagic)) || size > helloMost {
		return hello{}, fmt.Errorf("%w: it answered %q", ErrForeign, head[:])
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return hello{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	h, ok := parseHello(body)
	if !ok {
		return hello{}, fmt.Errorf("%w: its hello cannot be read", ErrForeign)
	}
	return h, nil
}

// answerHello answers one hello; the transport closes the stream.
func (g *Gossip) answerHello(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	var request [len(helloMagic) + 1 + nonceBytes]byte
	_, err := io.ReadFull(c, request[:])
	if err != nil || string(request[:len(helloMagic)]) != helloMagic || request[len(helloMagic)] < helloVersion {
		g.metrics.refuse("malformed")
		return
	}
	body := g.hello(nonce(request[len(helloMagic)+1:])).append(nil)
	out := binary.BigEndian.AppendUint16([]byte(helloMagic), uint16(len(body)))
	_, _ = c.Write(append(out, body...)) // who asked and did not wait gets nothing
}

func (g *Gossip) hello(n nonce) hello {
	h := hello{node: g.config.Meta.Node, instance: g.instance, label: g.config.Cluster}
	if g.ring != nil {
		h.keys = prints(g.ring.GetKeys(), n)
	}
	return h
}
