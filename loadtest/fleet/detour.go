package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// Detour is a node's way to the others through proxies.
type Detour struct {
	// Node is its number.
	Node int `json:"node"`
	// Gossip and Peer are where the others reach it: its proxy's ports.
	Gossip string `json:"gossip"`
	Peer   string `json:"peer"`
}

// greeting begins each connection to a proxy; the number of the node that dials
// follows in one byte. A connection's own port does not tell who dials.
const greeting = "WSFROM"

// Dial connects to another node's proxy.
func (d *Detour) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(append([]byte(greeting), byte(d.Node))); err != nil {
		return nil, errors.Join(fmt.Errorf("greet proxy: %w", err), c.Close())
	}
	return c, nil
}

// greeted reads which node dialled.
func greeted(r io.Reader) (node int, err error) {
	var b [len(greeting) + 1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	if string(b[:len(greeting)]) != greeting {
		return 0, fmt.Errorf("%q is no greeting", b)
	}
	return int(b[len(greeting)]), nil
}
