package leak

import (
	"strings"
	"testing"
	"time"
)

func TestEnded(t *testing.T) {
	stop := make(chan struct{})
	go func() { <-stop }()
	if err := ended(time.Now()); err == nil || !strings.Contains(err.Error(), "TestEnded") {
		t.Errorf("a goroutine that stays: %v", err)
	}
	time.AfterFunc(time.Second, func() { close(stop) })
	if err := ended(time.Now().Add(patience)); err != nil {
		t.Errorf("one that ends after a second: %v", err)
	}
}
