package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/node/config"
)

// certAgain is how often the certificate's files are looked at.
const certAgain = 2 * time.Second

// peerTLS is how the nodes talk to each other: both sides show a certificate that
// the CA has signed, for the address under which they are reached. It is nil without
// --peer-cert.
//
// Certificates run out, and a restart for that alone would be one too many: another
// one in the same files is shown from the next connection on. The CA is read once.
type peerTLS struct {
	cfg     *config.Config
	at      string // this node's address for the others
	wall    func() time.Time
	logger  *slog.Logger
	signers *x509.CertPool
	now     atomic.Pointer[tls.Certificate]
}

// newPeerTLS reads the files: a certificate that nobody would take is an error now,
// and not one that the others log for hours.
func newPeerTLS(cfg *config.Config, at string, wall func() time.Time, logger *slog.Logger) (*peerTLS, error) {
	if cfg.PeerCert == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.PeerCA)
	if err != nil {
		return nil, fmt.Errorf("--peer-ca: %w", err)
	}
	p := &peerTLS{cfg: cfg, at: at, wall: wall, logger: logger, signers: x509.NewCertPool()}
	if !p.signers.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--peer-ca: %w", errors.New("no certificate in "+cfg.PeerCA))
	}
	cert, err := p.read()
	if err != nil {
		return nil, err
	}
	p.now.Store(cert)
	return p, nil
}

// read reads the certificate's files, and looks whether it is of use.
func (p *peerTLS) read() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(p.cfg.PeerCert, p.cfg.PeerKey)
	if err != nil {
		return nil, fmt.Errorf("--peer-cert, --peer-key: %w", err)
	}
	if err := goodFor(&cert, p.signers, p.at, p.wall()); err != nil {
		return nil, fmt.Errorf("--peer-cert %s: %w", p.cfg.PeerCert, err)
	}
	return &cert, nil
}

// config is for both directions; nil without a certificate.
func (p *peerTLS) config() *tls.Config {
	if p == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now.Load(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.now.Load(), nil },
		ClientAuth:           tls.RequireAndVerifyClientCert, ClientCAs: p.signers, RootCAs: p.signers,
		NextProtos: []string{"h2"}, // what gRPC insists on
		// A session that is resumed would show the certificate that it began with.
		SessionTicketsDisabled: true,
	}
}

// watch takes another certificate from the files until ctx ends. One that is of no use
// changes nothing, and is told of once; the two files are not written at one moment, so
// that only what is still wrong at the second look counts.
func (p *peerTLS) watch(ctx context.Context) {
	if p == nil {
		return
	}
	tick := time.NewTicker(certAgain)
	defer tick.Stop()
	seen, said := "", ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		cert, err := p.read()
		switch {
		case err == nil && slices.EqualFunc(cert.Certificate, p.now.Load().Certificate, bytes.Equal):
			seen, said = "", ""
		case err == nil:
			p.now.Store(cert)
			seen, said = "", ""
			p.logger.Info("peer certificate read again", "until", cert.Leaf.NotAfter)
		case err.Error() != seen:
			seen = err.Error()
		case seen != said:
			said = seen
			p.logger.Error("the peer certificate stays as it was: mend its files", "err", err)
		}
	}
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
