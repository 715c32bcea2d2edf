package api

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// GRPC is the gRPC interface.
type GRPC struct {
	calls   *Calls
	buffers sync.Pool      // of *[]byte, for answers
	readers sync.WaitGroup // of all streams
}

// NewGRPC returns the gRPC interface of calls. The server that it is registered
// with must use the codec of messages/codec.
func NewGRPC(calls *Calls) *GRPC { return &GRPC{calls: calls} }

// Wait blocks until the goroutines of all streams have ended; they do once the
// server is stopped.
func (g *GRPC) Wait() { g.readers.Wait() }

// Register makes the service known to r.
//
// All calls are registered as streams, unary ones too; on the wire there is no
// difference. So a handler chooses the types that it reads and writes: frames and
// bytes where packets pass, messages elsewhere.
func (g *GRPC) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: waystationv1.Waystation_ServiceDesc.ServiceName,
		Metadata:    waystationv1.Waystation_ServiceDesc.Metadata,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Publish", Handler: g.publish},
			{StreamName: "PublishStream", Handler: g.publishStream, ServerStreams: true, ClientStreams: true},
			{StreamName: "Work", Handler: g.work, ServerStreams: true, ClientStreams: true},
			unary("Pull", func(ctx context.Context, q *waystationv1.PullRequest) (any, error) { return g.calls.pull(ctx, q) }),
			unary("Settle", func(ctx context.Context, q *waystationv1.SettleRequest) (any, error) { return g.calls.settle(ctx, q) }),
			unary("Renew", func(ctx context.Context, q *waystationv1.RenewRequest) (any, error) { return g.calls.renew(ctx, q) }),
			unary("Call", func(ctx context.Context, q *waystationv1.CallRequest) (any, error) { return g.calls.call(ctx, q) }),
			unary("GetResult", func(ctx context.Context, q *waystationv1.GetResultRequest) (any, error) {
				return g.calls.result(ctx, q)
			}),
			unary("LookupPacket", func(ctx context.Context, q *waystationv1.LookupPacketRequest) (any, error) {
				return g.calls.lookup(ctx, q)
			}),
			unary("ReadPackets", func(ctx context.Context, q *waystationv1.ReadPacketsRequest) (any, error) {
				return g.calls.readPackets(ctx, q)
			}),
			unary("OpenProducer", func(ctx context.Context, q *waystationv1.OpenProducerRequest) (any, error) {
				return g.calls.openProducer(ctx, q)
			}),
			unary("GetRepository", func(ctx context.Context, q *waystationv1.GetRepositoryRequest) (any, error) {
				return g.calls.repository(ctx, q)
			}),
			unary("ListDeadLetters", func(ctx context.Context, q *waystationv1.ListDeadLettersRequest) (any, error) {
				return g.calls.deadLetters(ctx, q)
			}),
			unary("RedriveDeadLetters", func(ctx context.Context, q *waystationv1.RedriveDeadLettersRequest) (any, error) {
				return g.calls.redriveDead(ctx, q)
			}),
			unary("DiscardDeadLetters", func(ctx context.Context, q *waystationv1.DiscardDeadLettersRequest) (any, error) {
				return g.calls.discardDead(ctx, q)
			}),
			unary("CreateGroup", func(ctx context.Context, q *waystationv1.CreateGroupRequest) (any, error) {
				g, err := g.calls.cluster.CreateGroup(ctx, q.GetName(), q.GetSettings())
				return &waystationv1.CreateGroupResponse{Group: g}, err
			}),
			unary("UpdateGroup", func(ctx context.Context, q *waystationv1.UpdateGroupRequest) (any, error) {
				g, err := g.calls.cluster.UpdateGroup(ctx, q.GetName(), q.GetSettings())
				return &waystationv1.UpdateGroupResponse{Group: g}, err
			}),
			unary("DeleteGroup", func(ctx context.Context, q *waystationv1.DeleteGroupRequest) (any, error) {
				return &waystationv1.DeleteGroupResponse{}, g.calls.cluster.DeleteGroup(ctx, q.GetName())
			}),
			unary("ListGroups", func(context.Context, *waystationv1.ListGroupsRequest) (any, error) {
				list, err := g.calls.cluster.Groups()
				return &waystationv1.ListGroupsResponse{Groups: list}, err
			}),
			unary("DrainNode", func(ctx context.Context, q *waystationv1.DrainNodeRequest) (any, error) {
				return &waystationv1.DrainNodeResponse{}, g.calls.cluster.Drain(ctx, q.GetNode(), q.GetUndo())
			}),
			unary("RemoveNode", func(ctx context.Context, q *waystationv1.RemoveNodeRequest) (any, error) {
				return &waystationv1.RemoveNodeResponse{}, g.calls.cluster.Remove(ctx, q.GetNode())
			}),
			unary("VerifyCluster", func(ctx context.Context, q *waystationv1.VerifyClusterRequest) (any, error) {
				return g.calls.cluster.Verify(ctx, verifyLimit(q.GetLimitMs()))
			}),
			{StreamName: "ExportGroup", Handler: g.exportGroup, ServerStreams: true},
			unary("DescribeCluster", func(ctx context.Context, _ *waystationv1.DescribeClusterRequest) (any, error) {
				return g.calls.cluster.Describe(ctx), nil
			}),
		},
	}, g)
}

// unary serves a call of one request and one answer. The answer is a message, or
// a *codec.Raw.
func unary[Q any, P interface {
	*Q
	proto.Message
}](name string, call func(context.Context, P) (any, error),
) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: name, Handler: func(_ any, stream grpc.ServerStream) error {
		req := P(new(Q))
		if err := receive(stream, req); err != nil {
			return grpcError(err)
		}
		answer, err := call(stream.Context(), req)
		if err != nil {
			return grpcError(err)
		}
		return stream.SendMsg(answer)
	}}
}

// receive reads one message. What did not decode, or is a frame over its limits,
// comes back as an error that names the field.
func receive(stream grpc.ServerStream, msg any) error {
	if err := stream.RecvMsg(msg); err != nil {
		return err // gRPC has answered it already
	}
	return codec.DecodeError(msg)
}

// grpcError is err as a status; what is one already stays as it is.
func grpcError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return errorOf(err).grpcError()
}

// publish is PublishStream for one packet: the two requests are the same bytes.
func (g *GRPC) publish(_ any, stream grpc.ServerStream) error {
	f := new(codec.PublishFrame)
	if err := receive(stream, f); err != nil {
		return grpcError(err)
	}
	if len(f.Packets) != 1 {
		f.Free()
		return invalid("packet", "is missing, or is there twice: send one").grpcError()
	}
	outcomes, err := g.calls.publish(stream.Context(), f.Packets, f.Bytes(), f.Free)
	switch {
	case err != nil:
		return grpcError(err)
	case outcomes[0].err != nil:
		return outcomes[0].err.grpcError()
	}
	return stream.SendMsg(&waystationv1.PublishResponse{Receipt: outcomes[0].receipt})
}

func (g *GRPC) publishStream(_ any, stream grpc.ServerStream) error {
	if err := g.calls.open(); err != nil {
		return grpcError(err)
	}
	return newPublishStream(g.calls, stream, &g.buffers).run(&g.readers)
}

func (g *GRPC) work(_ any, stream grpc.ServerStream) error {
	if err := g.calls.open(); err != nil {
		return grpcError(err)
	}
	return grpcError(newWorkStream(g.calls, stream).run(&g.readers))
}
