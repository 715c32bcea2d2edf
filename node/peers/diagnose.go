package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// ErrTLS says that two nodes cannot talk because of their TLS settings: time does
// not mend that.
var ErrTLS = errors.New("TLS between the nodes")

const (
	diagnoseTimeout = 3 * time.Second
	// preface begins an HTTP/2 connection; an empty SETTINGS frame belongs to it. A
	// peer port answers it at once.
	preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	settings = 4
)

// Diagnose looks why calls of the node at addr fail: ErrTLS if certificates are the
// reason, naming the flag to look at, or nil. It blocks for a few seconds at most.
func (p *Pool) Diagnose(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	if p.tls == nil {
		// Without a certificate of its own the handshake goes through, as far as this
		// side sees; what answers does not matter.
		blind := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}} //nolint:gosec // nothing is sent
		if p.answers(ctx, addr, nil) == nil {
			return nil
		}
		if conn, err := p.open(ctx, addr, blind); err == nil {
			_ = conn.Close() // nothing was sent
			return fmt.Errorf("%w: the node at %s wants it and this one has none: give this one --peer-cert, --peer-key and --peer-ca", ErrTLS, addr)
		}
		return nil
	}
	err := p.answers(ctx, addr, p.tls)
	if err == nil {
		return nil
	}
	if why := certificate(err, addr); why != nil {
		return why
	}
	if p.answers(ctx, addr, nil) == nil {
		return fmt.Errorf("%w: the node at %s has none: give it --peer-cert, --peer-key and --peer-ca too", ErrTLS, addr)
	}
	return nil
}

// certificate says whose certificate an error is about, if it is about one.
func certificate(err error, addr string) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: the certificate of the node at %s is not signed by this node's --peer-ca: all nodes need one CA's: %w", ErrTLS, addr, err)
	case errors.As(err, &name):
		return fmt.Errorf("%w: the certificate of the node at %s is for another host: make its --peer-cert for that host, or set its --advertise: %w", ErrTLS, addr, err)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w: the certificate of the node at %s does not hold: %w", ErrTLS, addr, err)
	case strings.Contains(err.Error(), "remote error: tls"): // an alert has no other mark that can be seen here
		return fmt.Errorf("%w: the node at %s refuses this node's --peer-cert: its --peer-ca must have signed it: %w", ErrTLS, addr, err)
	}
	return nil
}

// answers says whether a gRPC port answers at addr. In TLS 1.3 a server that refuses
// a certificate says so after the client's handshake only.
func (p *Pool) answers(ctx context.Context, addr string, config *tls.Config) error {
	conn, err := p.open(ctx, addr, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until) // shows in what follows
	}
	if _, err := conn.Write([]byte(preface)); err != nil {
		return err
	}
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if head[3] != settings {
		return fmt.Errorf("it answered %q", head)
	}
	return nil
}

// open connects to addr, and shakes hands if config is not nil.
func (p *Pool) open(ctx context.Context, addr string, config *tls.Config) (net.Conn, error) {
	raw, err := p.dial(ctx, "tcp", addr)
	if err != nil || config == nil {
		return raw, err
	}
	config = config.Clone()
	if host, _, err := net.SplitHostPort(addr); err == nil && config.ServerName == "" {
		config.ServerName = host
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}
