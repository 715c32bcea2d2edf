package client

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/client/internal/fakerelay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within returns a context that fails a hanging test long before go test does.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// relay starts a fake relay; set may misconfigure it.
func relay(t testing.TB, set func(*fakerelay.Relay)) *fakerelay.Relay {
	r := fakerelay.Start()
	if set != nil {
		set(r)
	}
	t.Cleanup(r.Stop)
	return r
}

func dial(t testing.TB, r *fakerelay.Relay, opts ...Option) *Client {
	opts = append([]Option{WithDialer(r.Dial), WithRetry(RetryPolicy{Min: time.Millisecond, Max: 20 * time.Millisecond, Jitter: 0.5})}, opts...)
	c, err := Dial(within(t), "fake:1", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// refused is the gRPC status of one of our codes.
func refused(code string) error {
	c := map[string]codes.Code{
		CodeInvalidArgument: codes.InvalidArgument, CodeUnauthenticated: codes.Unauthenticated, CodeUnavailable: codes.Unavailable,
	}[code]
	return status.Error(c, "refused on request")
}
