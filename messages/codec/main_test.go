package codec_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves impl with a codec over pool, and returns a connection to it.
func start(t testing.TB, pool *codec.Pool, impl waystationv1.WaystationServer, opts ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	opts = append(opts,
		grpc.ForceServerCodecV2(codec.NewServer(pool, wire.DefaultLimits())), grpc.MaxRecvMsgSize(64<<20))
	server := grpc.NewServer(opts...)
	waystationv1.RegisterWaystationServer(server, impl)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec.NewClient(codec.NewPoisonedPool())), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return conn
}
