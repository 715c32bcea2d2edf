// Package freeport finds ports of loopback that stay free until they are used, and
// between two lives of a node that is to come back where it was: for tests and for
// the load test. What the system chooses for port 0 is no good for that: once it is
// closed, the next connection of anybody on the machine may get it.
package freeport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// The ports are outside of the range from which systems give ports to connections:
// Linux begins at 32,768, others far beyond.
const (
	first  = 20_000
	many   = 12_000
	window = 100 // of one process, before it goes on in the next one's
)

var errNone = errors.New("no port of loopback is free")

// tried counts the ports that were looked at, so that each is given away once.
var tried atomic.Uint32

// Addr returns an address, 127.0.0.1 with a port, on which nobody listens, neither
// for streams nor for packets. No call of this process returns it again.
func Addr() (string, error) {
	for range many {
		n := uint32(os.Getpid())*window + tried.Add(1) //nolint:gosec // it may begin anew
		if at := fmt.Sprintf("127.0.0.1:%d", first+n%many); free(at) {
			return at, nil
		}
	}
	return "", errNone
}

func free(at string) bool {
	streams, err := net.Listen("tcp", at)
	if err != nil {
		return false
	}
	defer streams.Close()
	packets, err := net.ListenPacket("udp", at)
	if err != nil {
		return false
	}
	_ = packets.Close() // nothing was sent
	return true
}
