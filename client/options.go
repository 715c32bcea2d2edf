package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Option sets something about a Client.
type Option func(*config)

type config struct {
	connections  int // 0: one for each target
	window       int // packets
	windowBytes  int64
	linger       time.Duration
	framePackets int
	frameBytes   int
	answerSoon   time.Duration // see there
	maxDrain     time.Duration // see there
	producer     string
	position     bool
	retry        RetryPolicy
	logger       *slog.Logger
	observer     Observer
	credentials  credentials.TransportCredentials
	dialer       func(context.Context, string) (net.Conn, error)
}

func defaultConfig() config {
	return config{
		window:       4096,
		windowBytes:  64 << 20,
		framePackets: 256,
		frameBytes:   512 << 10,
		answerSoon:   answerSoon,
		maxDrain:     maxDrain,
		position:     true,
		retry:        DefaultRetryPolicy(),
		logger:       slog.New(slog.DiscardHandler),
		credentials:  insecure.NewCredentials(),
	}
}

// validate joins all faults and changes nothing.
func (c *config) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.connections < 0 || c.connections > 1024, "connections: %d is not between 0 and 1024", c.connections)
	fault(c.window < 1, "window: %d packets, must be at least 1", c.window)
	fault(c.windowBytes < 1, "window: %d bytes, must be at least 1", c.windowBytes)
	fault(c.linger < 0 || c.linger > time.Second, "linger: %v is not between 0 and 1s", c.linger)
	fault(c.framePackets < 1 || c.framePackets > 1024, "frame: %d packets is not between 1 and 1024", c.framePackets)
	fault(c.frameBytes < 1 || c.frameBytes > maxFrameBytes, "frame: %d bytes is not between 1 and %d", c.frameBytes, maxFrameBytes)
	fault(len(c.producer) > maxProducer, "producer: %d bytes, at most %d", len(c.producer), maxProducer)
	fault(c.producer != "" && !c.position, "producer: a name is of no use without positions")
	fault(c.logger == nil, "logger: nil")
	fault(c.credentials == nil, "transport credentials: nil")
	errs = append(errs, c.retry.validate())
	return errors.Join(errs...)
}

// WithConnections sets how many connections there are, spread over the targets
// in turn; by default one for each target. There are as many to each node that is
// published to, and a repository is pinned to one of them. More than one helps
// only above some 100,000 packets a second.
func WithConnections(n int) Option { return func(c *config) { c.connections = n } }

// WithWindow sets how many packets may wait for their receipts at once, over
// all repositories (4,096). PublishAsync blocks while the window is full.
func WithWindow(packets int) Option { return func(c *config) { c.window = packets } }

// WithWindowBytes bounds the content of the packets that wait for their
// receipts, in bytes (64 MiB). One packet is let through in any case.
func WithWindowBytes(n int64) Option { return func(c *config) { c.windowBytes = n } }

// WithLinger has a frame that is not full wait that long for more packets (0).
// It is seldom worth it: what gathers while one frame is sent is the next frame
// anyway.
func WithLinger(d time.Duration) Option { return func(c *config) { c.linger = d } }

// WithMaxFrame bounds a frame (256 packets, 512 KiB). A packet that is larger
// than that has a frame of its own.
func WithMaxFrame(packets, bytes int) Option {
	return func(c *config) { c.framePackets, c.frameBytes = packets, bytes }
}

// WithProducer sends under a stable producer name, 1 to 128 bytes, in place of
// a random one. Dial then asks the cluster for the name's next epoch; any other
// process that still sends under the name is refused as FENCED from then on.
func WithProducer(name string) Option { return func(c *config) { c.producer = name } }

// WithoutPosition sends packets without a producer position. Order then holds
// only between a receipt and the next send. A packet without an id whose outcome
// is unknown is not sent again, as that would make a second packet: it ends with
// the code UNKNOWN.
func WithoutPosition() Option { return func(c *config) { c.position = false } }

// WithRetry sets how refusals and lost connections are retried.
func WithRetry(p RetryPolicy) Option { return func(c *config) { c.retry = p } }

// WithLogger sets the logger; nothing is logged by default.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithObserver has every delivery and settlement reported.
func WithObserver(o Observer) Option { return func(c *config) { c.observer = o } }

// WithTransportCredentials sets TLS; by default connections are in plain text,
// as nodes on loopback expect.
func WithTransportCredentials(creds credentials.TransportCredentials) Option {
	return func(c *config) { c.credentials = creds }
}

// WithDialer replaces how a target is connected to, e.g. for a Unix socket.
func WithDialer(dial func(ctx context.Context, target string) (net.Conn, error)) Option {
	return func(c *config) { c.dialer = dial }
}

// Observer has hooks that see what happens as it happens. Each may be nil. They
// are called from the client's goroutines, several at the same time, and must
// not block.
type Observer struct {
	// OnDelivery is called before a delivery's handler.
	OnDelivery func(d *Delivery, at time.Time)
	// OnSettled is called once the relay has answered a settlement; err is nil
	// when it was accepted.
	OnSettled func(repo string, sequence, token uint64, err error, at time.Time)
	// OnAbandoned is called when a handler did not return although its packet timed
	// out (WithPacketTimeout): the worker went on, its goroutine is left behind.
	OnAbandoned func(d *Delivery, at time.Time)
}
