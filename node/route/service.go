package route

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/waystation/waystation/messages/codec"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/node/api"
)

// peerStreams bounds the streams of one connection between two nodes: each
// worker's session has one.
const peerStreams = 1 << 16

// ServerOptions are what a gRPC server needs for Register: its codec first of all.
func ServerOptions(limits wire.Limits) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec.NewServer(codec.NewPool(), limits)),
		grpc.MaxRecvMsgSize(max(64<<20, 2*limits.MessageBytes())),
		grpc.MaxConcurrentStreams(peerStreams),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// Service is what a node serves on its peer port for the routers of others.
type Service struct {
	r       *Router
	calls   *api.GRPC
	readers sync.WaitGroup
}

// Register makes what this node's own partitions do known to s, which is for
// other nodes only: it never forwards. cluster and health are as in api.NewCalls;
// a node that drains should go on here for as long as it leads partitions.
func (r *Router) Register(s grpc.ServiceRegistrar, cluster api.Cluster, health *api.Health) *Service {
	v := &Service{r: r, calls: api.NewGRPC(api.NewCalls(r.relay, r.delivery, cluster, health, r.cfg.Limits))}
	v.calls.Register(s)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: peerv1.Lanes_ServiceDesc.ServiceName,
		Metadata:    peerv1.Lanes_ServiceDesc.Metadata,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "Deliver", Handler: v.deliver, ServerStreams: true, ClientStreams: true}},
	}, v)
	return v
}

// Wait blocks until the goroutines of all streams have ended; they do once the
// server is stopped.
func (v *Service) Wait() {
	v.calls.Wait()
	v.readers.Wait()
}
