package server

import (
	"net"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/node/config"
)

// TestAdvertised: others are never told an address of which each of them would find
// itself; tools of this machine are told one that needs nobody else.
func TestAdvertised(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	open := &ports{grpc: l, http: l, peer: l}
	private := "nobody"
	if ip, err := gossip.PrivateAddr(); err == nil {
		private = ip.String()
	}
	at := func(host string) string { return net.JoinHostPort(host, port) }
	for name, x := range map[string]struct {
		listen, peer, advertise string
		grpc, others, tools     string
	}{
		"loopback":                     {"127.0.0.1:0", "127.0.0.1:0", "", at("127.0.0.1"), at("127.0.0.1"), at("127.0.0.1")},
		"one address":                  {"10.0.0.7:1", "10.0.0.7:1", "", at("10.0.0.7"), at("10.0.0.7"), at("10.0.0.7")},
		"everywhere":                   {"0.0.0.0:1", "[::]:1", "", at(private), at(private), at("127.0.0.1")},
		"everywhere, advertised":       {":1", "0.0.0.0:1", "relay-7", at("relay-7"), at("relay-7"), at("127.0.0.1")},
		"behind another address":       {"10.0.0.7:1", "10.0.0.7:1", "fd00::7", at("fd00::7"), at("fd00::7"), at("10.0.0.7")},
		"clients beyond, nodes not":    {"0.0.0.0:1", "127.0.0.1:1", "", at("127.0.0.1"), at("127.0.0.1"), at("127.0.0.1")},
		"clients on loopback, peers 0": {"127.0.0.1:1", "0.0.0.0:1", "", at("127.0.0.1"), at(private), at("127.0.0.1")},
	} {
		cfg := config.Default()
		cfg.Listen, cfg.HTTP, cfg.Peer, cfg.Gossip, cfg.Advertise = x.listen, x.listen, x.peer, x.peer, x.advertise
		got, err := advertised(&cfg, open)
		if private == "nobody" && x.others == at(private) {
			if err == nil {
				t.Errorf("%s: %+v on a machine without a private address", name, got)
			}
			continue
		}
		if err != nil || got.GRPC != x.grpc || got.HTTP != x.grpc || got.Peer != x.others {
			t.Errorf("%s: others are told %+v, %v", name, got, err)
		}
		if mine := local(&cfg, open, 77); mine.GRPC != x.tools || mine.HTTP != x.tools || !strings.HasSuffix(mine.Gossip, ":77") {
			t.Errorf("%s: tools are told %+v", name, mine)
		}
	}
}
