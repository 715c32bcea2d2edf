package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/node/config"
)

// authority signs nodes' certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "waystation"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes name.pem and name.key.
func (a *authority) sign(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = big.NewInt(1), time.Now().Add(-48*time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(48 * time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{
		".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// node makes a certificate as operations.md does, but for what change changes, and
// returns the flags of a node that has it.
func (a *authority) node(name string, change func(*x509.Certificate)) []string {
	a.t.Helper()
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	a.sign(name, c)
	return a.flags(name)
}

func (a *authority) flags(name string) []string {
	return []string{"--peer-cert", a.file(name + ".pem"), "--peer-key", a.file(name + ".key"), "--peer-ca", a.file("ca.pem")}
}

// secured has a node of this process use what node returned.
func secured(flags []string) func(*config.Config) {
	return func(c *config.Config) { c.PeerCert, c.PeerKey, c.PeerCA = flags[1], flags[3], flags[5] }
}

// TestMutualTLSBetweenNodes: nodes whose certificates one CA has signed are a
// cluster. Who has none, or another CA's, is refused, and says what to change.
func TestMutualTLSBetweenNodes(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	first := start(t, dataDir(t), secured(ca.node("first", nil)))
	second := start(t, dataDir(t), joining(first, "second"), secured(ca.node("second", nil)))
	third := start(t, dataDir(t), joining(first, "third"), secured(ca.node("third", nil)))
	await(t, "three copies over TLS", func() bool { return replicated(third.describe(), 3) })
	for i, n := range []*node{first, second, third} {
		if r := n.publish("acme/api", "x"); r.Sequence != string(rune('1'+i)) { // two of them pass it on
			t.Errorf("receipt %+v", r)
		}
	}
	plain := start(t, dataDir(t))
	// It takes the others' certificates for good, and they don't take its own.
	unknown := other.node("unknown", nil)
	both := filepath.Join(t.TempDir(), "both.pem")
	var list []byte
	for _, a := range []*authority{ca, other} {
		b, err := os.ReadFile(a.file("ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b...)
	}
	if err := os.WriteFile(both, list, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("refused", func(t *testing.T) {
		for name, x := range map[string]struct {
			seed        *node
			flags, want []string
		}{
			"without a certificate":     {first, nil, []string{"--peer-cert", first.Addresses.Peer, "this one has none"}},
			"another CA":                {first, other.node("x", nil), []string{"--peer-ca", first.Addresses.Peer, "is not signed by this node's"}},
			"a certificate of another":  {first, append(unknown[:4:4], "--peer-ca", both), []string{"--peer-cert", first.Addresses.Peer, "refuses"}},
			"a cluster that knows none": {plain, ca.node("y", nil), []string{"--peer-cert", plain.Addresses.Peer, "has none"}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				says(t, refusal(t, append([]string{"--join", x.seed.Addresses.Gossip, "--name", "stranger"}, x.flags...)...), x.want...)
			})
		}
	})
	if n := len(second.describe().GetNodes()); n != 3 {
		t.Errorf("%d nodes", n)
	}
}

// TestCertificateThatNobodyWouldTake: it is found at the start, by its fault.
func TestCertificateThatNobodyWouldTake(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	for name, x := range map[string]struct {
		change func(*x509.Certificate)
		ca     *authority
		want   []string
	}{
		"another host":  {func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 8)} }, ca, []string{"10.0.0.8", "not for 127.0.0.1", "--advertise"}},
		"only a server": {func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, ca, []string{"lacks clientAuth"}},
		"out of date":   {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, ca, []string{"holds from", "clock"}},
		"another CA":    {nil, other, []string{"not signed by --peer-ca"}},
	} {
		flags := ca.node("node", x.change)
		flags[5] = x.ca.file("ca.pem")
		t.Run(name, func(t *testing.T) {
			says(t, refusal(t, append(flags, "--join", "none")...), append(x.want, "--peer-cert "+flags[1])...)
		})
	}
}

// TestCertificateIsReadAgain: another one in the same files is shown without a restart,
// and files that are of no use change nothing.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	n := start(t, dataDir(t), secured(ca.node("first", nil)))
	ca.node("probe", nil)
	probe, err := tls.LoadX509KeyPair(ca.file("probe.pem"), ca.file("probe.key"))
	if err != nil {
		t.Fatal(err)
	}
	signers := x509.NewCertPool()
	signers.AddCert(ca.cert)
	shown := func() *x509.Certificate {
		d := tls.Dialer{Config: &tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: signers, Certificates: []tls.Certificate{probe}, NextProtos: []string{"h2"},
		}}
		conn, err := d.DialContext(t.Context(), "tcp", n.Addresses.Peer)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	}
	if name := shown().Subject.CommonName; name != "first" {
		t.Fatalf("shows the certificate of %s", name)
	}
	renew := func(change func(*x509.Certificate)) {
		ca.node("first", func(c *x509.Certificate) {
			c.Subject.CommonName = "renewed"
			change(c)
		})
	}
	// It is for another host: nobody would take it.
	renew(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 8)} })
	await(t, "a word about it", func() bool { return strings.Contains(n.said.String(), "the peer certificate stays as it was") })
	if name := shown().Subject.CommonName; name != "first" {
		t.Fatalf("shows the certificate of %s, which is of no use", name)
	}
	renew(func(*x509.Certificate) {})
	await(t, "the new certificate", func() bool { return shown().Subject.CommonName == "renewed" })
}
