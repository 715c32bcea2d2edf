package drive

import (
	"errors"
	"net"
	"testing"
)

// One that is cut sends no end in order, and never comes back.
func TestLifelineCut(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	line := newLifeline()
	conn, err := line.dial(t.Context(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	line.cut()
	if _, err := conn.Write([]byte("late")); err == nil {
		t.Error("sent after the cut")
	}
	// A reset, and not io.EOF.
	var reset *net.OpError
	if _, err := other.Read(make([]byte, 1)); !errors.As(err, &reset) {
		t.Errorf("the other side reads %v, want a reset", err)
	}
	if _, err := line.dial(t.Context(), listener.Addr().String()); !errors.Is(err, errDead) {
		t.Errorf("dialled again: %v", err)
	}
}
