package freeport

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
)

// TestNobodyElsesPorts: they are not among those that the system gives to
// connections, no two are the same, and what somebody listens on is passed over.
func TestNobodyElsesPorts(t *testing.T) {
	low, high := 32_768, 65_535
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(text), &low, &high); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for range 50 {
		at, err := Addr()
		if err != nil {
			t.Fatal(err)
		}
		_, text, err := net.SplitHostPort(at)
		if err != nil {
			t.Fatal(err)
		}
		if port, err := strconv.Atoi(text); err != nil || port == 0 || port >= low && port <= high || seen[at] {
			t.Errorf("%s: the system gives away %d to %d (%v)", at, low, high, err)
		}
		seen[at] = true
	}
	at, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	if free(at) {
		t.Error("a port with a listener is free")
	}
	streams.Close()
	packets, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	if free(at) {
		t.Error("a port with a socket is free")
	}
}
