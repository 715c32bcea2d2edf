package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/cluster/transport"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/peers"
	"github.com/waystation/waystation/storage"
)

// elsewhere is another host than the nodes', and loopback still.
const elsewhere = "127.0.0.2"

// hosts makes a certificate for elsewhere, and for the nodes' host too if both is set.
func hosts(both bool) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		if !both {
			c.IPAddresses = nil
		}
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(elsewhere))
	}
}

// impostor has the certificate of a machine of the cluster's, and another node's id.
type impostor struct {
	t     *testing.T
	tls   *tls.Config
	of    claim
	first *node
}

// claim is the node that it says it is.
type claim struct {
	id      identity.NodeID
	name    string
	cluster meta.ClusterID
	format  uint32
}

// claimed asks a node at the first one's peer port who the second one is.
func claimed(t *testing.T, ca *authority, first, second *node) *impostor {
	t.Helper()
	ca.node("impostor", hosts(false))
	cert, err := tls.LoadX509KeyPair(ca.file("impostor.pem"), ca.file("impostor.key"))
	if err != nil {
		t.Fatal(err)
	}
	signers := x509.NewCertPool()
	signers.AddCert(ca.cert)
	x := &impostor{t: t, first: first, tls: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: signers, ClientCAs: signers, ClientAuth: tls.RequireAndVerifyClientCert,
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"},
	}}
	info, err := x.peer(second).Info(t.Context(), &peerv1.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	x.of.id, x.of.name, x.of.cluster = identity.NodeID(info.GetNodeId()), info.GetNodeName(), meta.ClusterID(info.GetClusterId())
	x.of.format = info.GetFormat()
	return x
}

func (x *impostor) peer(n *node) peerv1.PeerClient {
	x.t.Helper()
	pool := peers.NewPool(x.tls)
	x.t.Cleanup(pool.Close)
	p, err := pool.Peer(n.Addresses.Peer)
	if err != nil {
		x.t.Fatal(err)
	}
	return p
}

// connects tries to be the node in raft's streams, and returns why it is not.
func (x *impostor) connects(boot uint64) (why error) {
	x.t.Helper()
	l, err := net.Listen("tcp", elsewhere+":0")
	if err != nil {
		x.t.Fatal(err)
	}
	info, err := x.peer(x.first).Info(x.t.Context(), &peerv1.InfoRequest{})
	if err != nil {
		x.t.Fatal(err)
	}
	to := identity.NodeID(info.GetNodeId())
	c := transport.DefaultConfig()
	c.Self, c.Boot, c.Life, c.Name, c.Cluster = x.of.id, boot, 1, x.of.name, x.of.cluster
	c.Feature, c.Format, c.TLS, c.Listener = meta.FeatureFirst, x.of.format, x.tls, l
	c.Address = func(identity.NodeID) (string, bool) { return x.first.Addresses.Peer, true }
	c.Resolve = func(storage.GroupID, storage.ReplicaID) (identity.NodeID, bool) { return to, true }
	c.Receive = func(storage.GroupID, []*pb.Message) {}
	c.ReceiveSnapshot = func(identity.NodeID, storage.GroupID, *pb.Message, io.Reader) error { return io.ErrUnexpectedEOF }
	c.Logger, c.Registerer = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	tr, err := transport.New(c)
	if err != nil {
		x.t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := tr.Stop(ctx); err != nil {
			x.t.Error(err)
		}
	}()
	tr.Start()
	tr.Connect(to)
	await(x.t, "an answer", func() bool {
		for _, p := range tr.Peers() {
			if why = p.Err; p.Connected || why != nil {
				return true
			}
		}
		return false
	})
	return why
}

// joins tries to be taken in as the node.
func (x *impostor) joins(boot uint64) error {
	_, err := x.peer(x.first).Join(x.t.Context(), &peerv1.JoinRequest{ClusterName: "waystation", ClusterId: x.of.cluster[:], Node: &peerv1.Node{
		NodeId: x.of.id[:], Name: x.of.name, Boot: boot, Life: 1, PeerAddress: elsewhere + ":7403", Format: x.of.format, FeatureMin: 1, FeatureMax: 2,
	}})
	return err
}

// TestAnotherNodesIDIsRefused: a certificate of the cluster's is good for the host that
// it names, and not for being another node; nor does a node that moved count as itself
// unless it can show that it was where it is known to be.
func TestAnotherNodesIDIsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	first := start(t, dataDir(t), secured(ca.node("first", nil)))
	dir := dataDir(t)
	second := start(t, dir, joining(first, "second"), secured(ca.node("second", nil)))
	await(t, "two copies", func() bool { return len(first.describe().GetNodes()) == 2 })
	x := claimed(t, ca, first, second)
	const want = "the certificate is for another host"
	if err := x.connects(1000); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("its streams: %v", err)
	}
	if err := x.joins(1000); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), want) {
		t.Errorf("its join: %v", err)
	}
	second.stop()
	moved := start(t, dir, func(c *config.Config) { c.Name, c.Join, c.Peer = "second", first.Addresses.Gossip, elsewhere+":0" },
		secured(ca.node("moved", hosts(true))))
	await(t, "the node that moved where it is now", func() bool {
		for _, n := range first.describe().GetNodes() {
			if n.GetName() == "second" && n.GetAddresses().GetPeer() == moved.Addresses.Peer && n.GetState() == "up" {
				return true
			}
		}
		return false
	})
}
