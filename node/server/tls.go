package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/waystation/waystation/node/config"
)

// peerTLS is how the nodes talk to each other: both sides show a certificate that
// the CA has signed, for the address under which they are reached. Nil without
// --peer-cert. at is this node's: a certificate that nobody would take is an error
// now, and not one that the others log for hours.
func peerTLS(cfg *config.Config, at string, wall func() time.Time) (*tls.Config, error) {
	if cfg.PeerCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(cfg.PeerCert, cfg.PeerKey)
	if err != nil {
		return nil, fmt.Errorf("--peer-cert, --peer-key: %w", err)
	}
	pem, err := os.ReadFile(cfg.PeerCA)
	if err != nil {
		return nil, fmt.Errorf("--peer-ca: %w", err)
	}
	signers := x509.NewCertPool()
	if !signers.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--peer-ca: %w", errors.New("no certificate in "+cfg.PeerCA))
	}
	if err := goodFor(&cert, signers, at, wall()); err != nil {
		return nil, fmt.Errorf("--peer-cert %s: %w", cfg.PeerCert, err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: signers, RootCAs: signers,
		NextProtos: []string{"h2"}, // what gRPC insists on
	}, nil
}

// goodFor looks at a certificate as the other nodes will: when they dial at, and
// when this node dials them.
func goodFor(cert *tls.Certificate, signers *x509.CertPool, at string, now time.Time) error {
	leaf, between := cert.Leaf, x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse certificate behind the first: %w", err)
		}
		between.AddCert(c)
	}
	for _, use := range []struct {
		key  x509.ExtKeyUsage
		name string
	}{{x509.ExtKeyUsageServerAuth, "serverAuth"}, {x509.ExtKeyUsageClientAuth, "clientAuth"}} {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: signers, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use.key},
		})
		var (
			invalid x509.CertificateInvalidError
			unknown x509.UnknownAuthorityError
		)
		switch {
		case errors.As(err, &unknown):
			return fmt.Errorf("is not signed by --peer-ca: give the CA that signed it, and to all nodes the same: %w", err)
		case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
			return fmt.Errorf("lacks %s: every node also dials; make it with extendedKeyUsage=serverAuth,clientAuth: %w", use.name, err)
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return fmt.Errorf("holds from %v to %v: make a new one, or set this machine's clock: %w", leaf.NotBefore, leaf.NotAfter, err)
		case err != nil:
			return err
		}
	}
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		return err
	}
	if err := leaf.VerifyHostname(host); err != nil {
		return fmt.Errorf("is not for %s, under which the others reach this node: make one with that subjectAltName, or set --advertise: %w", host, err)
	}
	return nil
}
