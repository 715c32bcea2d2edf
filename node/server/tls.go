package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/waystation/waystation/node/config"
)

// peerTLS is how the nodes talk to each other: both sides show a certificate that
// the CA has signed, for the address under which they are reached. Nil without
// --peer-cert.
func peerTLS(cfg *config.Config) (*tls.Config, error) {
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
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: signers, RootCAs: signers,
		NextProtos: []string{"h2"}, // what gRPC insists on
	}, nil
}
