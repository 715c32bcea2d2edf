package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// A node id is no secret: whoever is in the cluster knows all of them. With TLS
// between the nodes one is believed only together with a certificate for the host
// at which meta knows the node, which is what the others dial it under anyway. So a
// machine with a certificate of the cluster's, for itself, cannot be another one. A
// node that moves to another host shows a certificate for both (ADR 0017).

// errUnproven says that a certificate is not for the host of the node that its
// owner claims to be.
var errUnproven = errors.New("the certificate is for another host")

// hostOf is the host at which meta knows a node; "" if it does not know it.
func (m *Member) hostOf(id identity.NodeID) string {
	if p := m.parts.Load(); p != nil {
		if n, ok := p.Meta.View().Node(id); ok {
			return withoutPort(n.Addresses.Peer)
		}
	}
	return ""
}

// withoutPort is an address without its port.
func withoutPort(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// vouch says what speaks against it that who shows a certificate is a node: that
// meta knows the node at a host which the certificate is not for. Without TLS, and of
// a node that meta does not know, nothing is known.
func (m *Member) vouch(shows *x509.Certificate, id identity.NodeID) error {
	host := m.hostOf(id)
	if m.cfg.TLS == nil || host == "" {
		return nil
	}
	return names(shows, host, id)
}

// names says whether a certificate is for a host.
func names(shows *x509.Certificate, host string, id identity.NodeID) error {
	if shows == nil {
		return fmt.Errorf("%w: node %s is at %s, and there is none", errUnproven, id, host)
	}
	if err := shows.VerifyHostname(host); err != nil {
		return fmt.Errorf("%w: node %s is at %s: if it moved, give it one for both hosts until it has started once: %w", errUnproven, id, host, err)
	}
	return nil
}

// vouchFor judges a command of another node's that says where a node is. itself
// says that it comes from that node.
func (m *Member) vouchFor(shows *x509.Certificate, n meta.Node, itself bool) error {
	host := withoutPort(n.Addresses.Peer)
	switch was := m.hostOf(n.ID); {
	case m.cfg.TLS == nil:
		return nil
	case itself:
		if err := m.vouch(shows, n.ID); err != nil {
			return err
		}
		return names(shows, host, n.ID)
	case was != "" && was != host:
		return fmt.Errorf("%w: node %s is at %s, and another one says that it is at %s", errUnproven, n.ID, was, host)
	}
	return nil
}

// leafOf is the certificate that a connection's other side has shown and proven to
// be its own; nil without TLS.
func leafOf(s *tls.ConnectionState) *x509.Certificate {
	if s == nil || len(s.PeerCertificates) == 0 {
		return nil
	}
	return s.PeerCertificates[0]
}

// caller is the certificate of who called.
func caller(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	if s, ok := p.AuthInfo.(shown); ok {
		return s.leaf
	}
	return nil
}

// shown is what a connection says of its other side.
type shown struct {
	credentials.CommonAuthInfo
	leaf *x509.Certificate
}

// AuthType implements credentials.AuthInfo.
func (shown) AuthType() string { return "shown" }

// greeted has calls know who makes them: the transport has shaken hands already.
type greeted struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (greeted) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s := shown{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	if t, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := t.ConnectionState()
		if s.leaf = leafOf(&state); s.leaf != nil {
			s.SecurityLevel = credentials.PrivacyAndIntegrity
		}
	}
	return c, s, nil
}

// ClientHandshake implements credentials.TransportCredentials; nobody dials with it.
func (greeted) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("for servers only")
}

// Info implements credentials.TransportCredentials.
func (greeted) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "shown"}
}

// Clone implements credentials.TransportCredentials.
func (greeted) Clone() credentials.TransportCredentials { return greeted{} }

// OverrideServerName implements credentials.TransportCredentials.
func (greeted) OverrideServerName(string) error { return nil }
