package route

import (
	"google.golang.org/grpc"

	"github.com/waystation/waystation/messages/codec"
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
	}
}

// Service is what a node serves on its peer port for the routers of others.
type Service struct {
	calls *api.GRPC
}

// Register makes what this node's own partitions do known to s, which is for
// other nodes only: it never forwards. cluster and health are as in api.NewCalls;
// a node that drains should go on here for as long as it leads partitions.
func (r *Router) Register(s grpc.ServiceRegistrar, cluster api.Cluster, health *api.Health) *Service {
	v := &Service{calls: api.NewGRPC(api.NewCalls(r.relay, r.delivery, cluster, health, r.cfg.Limits))}
	v.calls.Register(s)
	return v
}

// Wait blocks until the goroutines of all streams have ended; they do once the
// server is stopped.
func (s *Service) Wait() { s.calls.Wait() }
