package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/messages/codec"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/node/api"
)

// Buffers and windows as measured: 8 to 10 % over gRPC's own.
const (
	bufferBytes = 128 * kib
	windowBytes = 4 * mib
	// handshakeLimit is how long a connection may take to say that it speaks gRPC.
	handshakeLimit = 10 * time.Second
	maxStreams     = 1024    // of one connection
	peerStreams    = 1 << 16 // each worker's session has one
	maxHeaders     = 64 * kib
)

// front is the node's two servers.
type front struct {
	grpc   *grpc.Server
	health *health.Server
	http   *http.Server
	pages  atomic.Pointer[http.Handler] // what HTTP answers at the moment
	calls  *api.GRPC                    // nil until the node serves
	logger *slog.Logger
	done   sync.WaitGroup
	failed chan error   // a server ended by itself
	active atomic.Int64 // calls of the API
}

// peerOptions are those of the server for the other nodes.
func peerOptions(l wire.Limits, largest int) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec.NewServer(codec.NewPool(), l)),
		grpc.MaxRecvMsgSize(max(largest, l.MessageBytes())),
		grpc.ReadBufferSize(bufferBytes), grpc.WriteBufferSize(bufferBytes),
		grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(windowBytes),
		grpc.MaxConcurrentStreams(peerStreams), grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeLimit), grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	}
}

func newFront(l wire.Limits, largest int, logger *slog.Logger) *front {
	f := &front{health: health.NewServer(), logger: logger, failed: make(chan error, 2)}
	f.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(codec.NewServer(codec.NewPool(), l)),
		grpc.MaxRecvMsgSize(max(largest, l.MessageBytes())),
		grpc.ReadBufferSize(bufferBytes), grpc.WriteBufferSize(bufferBytes),
		grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(windowBytes),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeLimit), grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: 15 * time.Minute}),
		grpc.ChainUnaryInterceptor(f.recoverUnary), grpc.ChainStreamInterceptor(f.recoverStream),
	)
	healthv1.RegisterHealthServer(f.grpc, f.health)
	f.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	f.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*f.pages.Load()).ServeHTTP(w, r) }),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeaders,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // what strangers send is no news
	}
	return f
}

// openHTTP begins to answer HTTP, with pages.
func (f *front) openHTTP(l net.Listener, pages http.Handler) {
	f.pages.Store(&pages)
	f.done.Go(func() {
		if err := f.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.failed <- fmt.Errorf("serve HTTP: %w", err)
		}
	})
}

// open begins to serve everything.
func (f *front) open(l net.Listener, calls *api.GRPC, pages http.Handler) {
	f.calls = calls
	calls.Register(f.grpc)
	reflection.Register(f.grpc)
	f.pages.Store(&pages)
	f.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	f.done.Go(func() {
		if err := f.grpc.Serve(l); err != nil {
			f.failed <- fmt.Errorf("serve gRPC: %w", err)
		}
	})
}

// farewell is how long clients get to take note, once all calls are done.
const farewell = 200 * time.Millisecond

// drain ends both servers: gRPC once its calls are done, then HTTP, so that
// /readyz says why for as long as there is something to wait for. At the end of
// ctx what is left is cut off.
func (f *front) drain(ctx context.Context) {
	f.health.Shutdown()
	graceful := make(chan struct{})
	go func() {
		f.grpc.GracefulStop()
		close(graceful)
	}()
	// GracefulStop waits for every client to take note, those that are gone without
	// a word too, and for those who only watch the node's health.
	if !f.quiet(ctx, graceful) {
		f.logger.Warn("drain took too long", slog.String("left", "calls are cut off"))
	}
	f.grpc.Stop()
	<-graceful
	if err := f.http.Shutdown(ctx); err != nil {
		_ = f.http.Close() // its connections are what it waited for
	}
	f.wait()
}

// quiet waits until all is over, or no call was running for a while; false when
// ctx ended before.
func (f *front) quiet(ctx context.Context, over <-chan struct{}) bool {
	tick := time.NewTicker(farewell / 10)
	defer tick.Stop()
	for calm := 0; calm < 10; calm++ {
		select {
		case <-over:
			return true
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		if f.active.Load() > 0 {
			calm = 0
		}
	}
	return true
}

// cut ends both servers at once.
func (f *front) cut() {
	f.grpc.Stop()
	_ = f.http.Close() // whatever it says, it is over
	f.wait()
}

func (f *front) wait() {
	f.done.Wait()
	if f.calls != nil {
		f.calls.Wait()
	}
}

func (f *front) recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
	defer f.recovered(info.FullMethod, &err)
	return handle(ctx, req)
}

func (f *front) recoverStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer f.recovered(info.FullMethod, &err)
	if _, ours := srv.(*api.GRPC); ours {
		f.active.Add(1)
		defer f.active.Add(-1)
	}
	return handle(srv, stream)
}

// recovered keeps one call's defect from ending the node.
func (f *front) recovered(method string, err *error) {
	if r := recover(); r != nil {
		f.logger.Error("call panicked", slog.String("method", method), slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		*err = status.Error(codes.Internal, "the node failed in this call; see its log")
	}
}
