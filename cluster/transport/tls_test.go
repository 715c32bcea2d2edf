package transport

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/storage"
)

// authority makes certificates for nodes.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.cert, a.key = a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) make(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// config is a node's, whose name is in its certificate.
func (a *authority) config(name string) *tls.Config {
	cert, key := a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		RootCAs:      a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
}

func TestMutualTLS(t *testing.T) {
	w, ca := newWorld(t), newAuthority(t)
	secure := func(c *Config) {
		c.TLS = ca.config(c.Self.String())
		// Who has a certificate for one node can't be another one.
		c.Admit = func(h Hello) error {
			if name := h.TLS.PeerCertificates[0].Subject.CommonName; name != h.Node.String() {
				return fmt.Errorf("certificate of %s", name)
			}
			return nil
		}
	}
	a, b := w.start(1, secure), w.start(2, secure)
	for i := range uint64(20) {
		a.Send(storage.GroupID(i%3), []*pb.Message{appendMessage(1, 2, i, int(i*i)*1000)})
	}
	b.await("all messages", func(got []received) bool { return len(got) == 20 })
	if err := await(t, "the outcome", sendSnap(a, 2, bytesOf(make([]byte, 1<<20)))); err == nil {
		t.Fatal("a body that nobody reads was taken")
	}
	liar := w.start(3, func(c *Config) {
		secure(c)
		c.TLS = ca.config(nodeID(2).String())
	})
	liar.Connect(nodeID(1))
	until(t, "a refusal", func() bool { return liar.status(1).Err != nil })
	if err := liar.status(1).Err; !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "certificate of") {
		t.Fatal(err)
	}
	strange := w.start(4, func(c *Config) { c.TLS = newAuthority(t).config(c.Self.String()) })
	plain := w.start(5, nil)
	for _, n := range []*testNode{strange, plain} {
		n.Connect(nodeID(1))
		until(t, "a failure", func() bool { return n.status(1).Err != nil })
		if n.status(1).Connected {
			t.Fatal("connected without a certificate")
		}
	}
	until(t, "counts", func() bool { return a.metric("foreign_connections_total") >= 2 })
}

// unknownService answers any call with its name.
func unknownService(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	return status.Error(codes.AlreadyExists, method)
}

// One port takes raft messages and gRPC calls, with TLS and without.
func TestGRPCOnTheSamePort(t *testing.T) {
	ca := newAuthority(t)
	for name, x := range map[string]struct {
		server *tls.Config
		client credentials.TransportCredentials
	}{
		"plain": {nil, insecure.NewCredentials()},
		"tls":   {ca.config("1"), credentials.NewTLS(ca.config("client"))},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := w.start(1, func(c *Config) { c.TLS = x.server })
			peer := w.start(2, func(c *Config) { c.TLS = x.server })
			server := grpc.NewServer(grpc.UnknownServiceHandler(unknownService))
			served := make(chan error, 1)
			go func() { served <- server.Serve(n.GRPCListener()) }()
			client, err := grpc.NewClient(n.cfg.Listener.Addr().String(), grpc.WithTransportCredentials(x.client))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = client.Invoke(ctx, "/any/Call", nil, nil, grpc.ForceCodec(noCodec{}))
			if s := status.Convert(err); s.Code() != codes.AlreadyExists || s.Message() != "/any/Call" {
				t.Fatal(err)
			}
			sendUntil(t, peer, n)
			server.Stop()
			if err := await(t, "the server's end", served); err != nil {
				t.Fatal(err)
			}
			sendUntil(t, peer, n) // the port is the transport's
		})
	}
}

// noCodec has nothing to say.
type noCodec struct{}

func (noCodec) Marshal(any) ([]byte, error) { return nil, nil }
func (noCodec) Unmarshal([]byte, any) error { return nil }
func (noCodec) Name() string                { return "none" }

// The listener gives out all bytes, in whatever pieces they come, and closes
// what nobody takes.
func TestGRPCListener(t *testing.T) {
	n := newWorld(t).start(1, func(c *Config) { c.GRPCBacklog, c.HelloTimeout = 1, patience })
	c := n.raw()
	for _, b := range []byte(preface) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write([]byte("more\n")); err != nil {
		t.Fatal(err)
	}
	l := n.GRPCListener()
	if l.Addr().String() != n.cfg.Listener.Addr().String() {
		t.Fatal(l.Addr())
	}
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	all, err := io.ReadAll(io.LimitReader(bufio.NewReaderSize(got, 16), int64(len(preface)+5)))
	if err != nil || string(all) != preface+"more\n" {
		t.Fatalf("%q: %v", all, err)
	}
	kept, over := n.raw(), n.raw()
	if _, err := kept.Write([]byte(preface)); err != nil {
		t.Fatal(err)
	}
	until(t, "a connection that waits", func() bool { return len(n.grpc.conns) == 1 })
	if _, err := over.Write([]byte(preface)); err != nil {
		t.Fatal(err)
	}
	closed(t, over)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	closed(t, kept)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	late := n.raw()
	if _, err := late.Write([]byte(preface)); err != nil {
		t.Fatal(err)
	}
	closed(t, late)
}
