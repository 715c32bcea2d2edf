package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
)

// ErrClosed says that the pool is closed.
var ErrClosed = errors.New("connections to peers are closed")

// Buffers and windows as on the public port: they are worth 8 to 10 % there.
const (
	bufferBytes = 128 << 10
	windowBytes = 4 << 20
	// messageBytes is the most that an answer may take: a packet with what is
	// around it, or a page of them.
	messageBytes = 64 << 20
)

// Pool keeps a connection to each address that was asked for. A node that moves
// has another address: the old connection is closed by Forget. All methods may be
// called at the same time.
type Pool struct {
	options []grpc.DialOption
	tls     *tls.Config
	dial    Dial

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

// Dial connects to an address, as net.Dialer's DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// NewPool returns an empty pool. config is nil for connections without TLS.
func NewPool(config *tls.Config) *Pool { return NewPoolOver(config, nil) }

// NewPoolOver is NewPool with connections that dial opens; nil: over the network
// as it is.
func NewPoolOver(config *tls.Config, dial Dial) *Pool {
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	var options []grpc.DialOption
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	} else {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 50*time.Millisecond, time.Second
	return &Pool{tls: config, dial: dial, conns: map[string]*grpc.ClientConn{}, options: append(options,
		grpc.WithTransportCredentials(creds),
		grpc.WithReadBufferSize(bufferBytes), grpc.WithWriteBufferSize(bufferBytes),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytes)),
	)}
}

// Conn returns the connection to the peer port at addr, which connects when it is
// first used. It is shared: only the pool closes it.
func (p *Pool) Conn(addr string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if c := p.conns[addr]; c != nil {
		return c, nil
	}
	c, err := grpc.NewClient("passthrough:///"+addr, p.options...)
	if err != nil {
		return nil, fmt.Errorf("connect to peer %s: %w", addr, err)
	}
	p.conns[addr] = c
	return c, nil
}

// Peer returns the calls of the node at addr.
func (p *Pool) Peer(addr string) (peerv1.PeerClient, error) {
	c, err := p.Conn(addr)
	if err != nil {
		return nil, err
	}
	return peerv1.NewPeerClient(c), nil
}

// Keep closes the connections to addresses that are not in use any more. Calls on
// them fail as UNAVAILABLE.
func (p *Pool) Keep(addrs map[string]bool) {
	p.mu.Lock()
	var gone []*grpc.ClientConn
	for addr, c := range p.conns {
		if !addrs[addr] {
			gone = append(gone, c)
			delete(p.conns, addr)
		}
	}
	p.mu.Unlock()
	for _, c := range gone {
		_ = c.Close() // an error says that it was closed already
	}
}

// Close ends all connections, and what is called on them. A second call does nothing.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Keep(nil)
}
