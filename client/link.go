package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/waystation/waystation/messages/codec"
)

// link is a set of connections, one to each target: calls and workers use one
// target at a time, and the next one after a failure; publishers use those that
// they want. Each link has TCP connections of its own, because all streams of one
// TCP connection share its lock and its writer.
type link struct {
	given []string // by the caller
	opts  []grpc.DialOption

	mu      sync.Mutex
	targets []string // given, and behind them those that nodes told of
	at      int      // index of the target in use
	conns   map[string]*grpc.ClientConn
	closed  bool
}

func newLinks(list string, cfg *config, pool *codec.Pool) ([]*link, error) {
	var targets []string
	for t := range strings.SplitSeq(list, ",") {
		t = strings.TrimSpace(t)
		if t == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(t); err != nil && cfg.dialer == nil {
			return nil, fmt.Errorf("target %q: %w", t, err)
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, errors.New("no target: want host:port")
	}
	n := cfg.connections
	if n == 0 {
		n = len(targets)
	}
	links := make([]*link, n)
	for i := range links {
		links[i] = &link{
			given: targets, targets: slices.Clone(targets), at: i % len(targets),
			conns: make(map[string]*grpc.ClientConn), opts: dialOptions(cfg, pool),
		}
	}
	return links, nil
}

// dialOptions: buffers of 128 KiB and windows of 4 MiB were worth 8 to 10 % of
// the publishing path. gRPC's own back-off, of up to 2 min, would hide a node
// that is back; ours stands above it.
func dialOptions(cfg *config, pool *codec.Pool) []grpc.DialOption {
	const buffer, window = 128 << 10, 4 << 20
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(cfg.credentials),
		grpc.WithReadBufferSize(buffer),
		grpc.WithWriteBufferSize(buffer),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(2 * window),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A node that is cut off sends no reset; the system gives up on what it does
		// not acknowledge after the timeout.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec.NewClient(pool)),
			grpc.MaxCallRecvMsgSize(maxMessage),
			grpc.MaxCallSendMsgSize(maxMessage),
		),
	}
	if cfg.dialer != nil {
		opts = append(opts, grpc.WithContextDialer(cfg.dialer))
	}
	return opts
}

// maxMessage lets any frame or delivery through that the relay may send: its
// own limits are the ones that count.
const maxMessage = 64 << 20

// conn returns the connection in use and the index of its target.
func (l *link) conn() (*grpc.ClientConn, int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.connect(l.targets[l.at])
	return c, l.at, err
}

// connTo returns the connection to an address.
func (l *link) connTo(addr string) (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connect(addr)
}

// connect makes a connection if need be; the caller holds l.mu.
func (l *link) connect(addr string) (*grpc.ClientConn, error) {
	if l.closed {
		return nil, ErrClosed
	}
	if c := l.conns[addr]; c != nil {
		return c, nil
	}
	// passthrough: the name is resolved at each connect, in the dialer.
	c, err := grpc.NewClient("passthrough:///"+addr, l.opts...)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", addr, err)
	}
	l.conns[addr] = c
	return c, nil
}

// named says whether the caller gave an address.
func (l *link) named(addr string) bool { return slices.Contains(l.given, addr) }

// failed moves on to the next target, unless another user of the link did.
func (l *link) failed(target int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == target {
		l.at = (l.at + 1) % len(l.targets)
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range l.conns {
		_ = c.Close() // only says that it was closed before
	}
}

// waitReady blocks until the link is connected to one of its targets.
func (l *link) waitReady(ctx context.Context, retry RetryPolicy) error {
	for try := 1; ; try++ {
		conn, target, err := l.conn()
		if err != nil {
			return err
		}
		for state := conn.GetState(); state != connectivity.TransientFailure; state = conn.GetState() {
			if state == connectivity.Ready {
				return nil
			}
			conn.Connect()
			if !conn.WaitForStateChange(ctx, state) {
				return fmt.Errorf("connect %s: %w", strings.Join(l.known(), ","), context.Cause(ctx))
			}
		}
		l.failed(target)
		if err := pause(ctx, retry.wait(try, 0)); err != nil {
			return fmt.Errorf("connect %s: %w", strings.Join(l.known(), ","), err)
		}
	}
}

// pause waits for d, or returns the cause of ctx's end.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
