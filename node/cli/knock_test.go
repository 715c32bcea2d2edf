package cli

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestBusyMachineIsKnockedAtLonger: a node whose machine is so busy that its port
// takes seconds to open is there. One that refuses is not, and one that says nothing
// holds nobody up for long once another has opened.
func TestBusyMachineIsKnockedAtLonger(t *testing.T) {
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		takes := map[string]time.Duration{"at once": 0, "soon": knockLate / 2, "slow": 4 * time.Second}
		after, opens := takes[addr]
		switch {
		case addr == "closed":
			return nil, errors.New("connection refused")
		case !opens:
			<-ctx.Done()
			return nil, ctx.Err()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(after):
			here, there := net.Pipe()
			return here, there.Close()
		}
	}
	for _, x := range []struct {
		addrs, want []string
		takes       time.Duration
	}{
		{[]string{"slow", "closed"}, []string{"slow"}, 4 * time.Second},
		{[]string{"silent", "soon", "at once", "closed"}, []string{"soon", "at once"}, knockLate},
		{[]string{"silent", "closed"}, nil, knockRemote},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			if got := open(t.Context(), x.addrs, dial); !slices.Equal(got, x.want) {
				t.Errorf("of %q %q open, want %q", x.addrs, got, x.want)
			}
			if took := time.Since(begin); took != x.takes {
				t.Errorf("%q took %v, want %v", x.addrs, took, x.takes)
			}
		})
	}
}
