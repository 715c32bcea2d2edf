package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// secure puts TLS over a connection that was dialled, if it is configured.
func (t *Transport) secure(ctx context.Context, raw net.Conn, address string) (net.Conn, error) {
	if t.cfg.TLS == nil {
		return raw, nil
	}
	c := t.cfg.TLS.Clone()
	c.NextProtos = []string{alpnOwn}
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("server name: %w", err)
		}
		c.ServerName = host
	}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	return conn, nil
}
