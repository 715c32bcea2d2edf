package api

import (
	"time"

	"google.golang.org/grpc"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// How long a comparison of all replicas may take: by default, and at most.
const (
	defaultVerify = 10 * time.Minute
	longestVerify = time.Hour
)

func verifyLimit(ms uint32) time.Duration {
	if ms == 0 {
		return defaultVerify
	}
	return min(time.Duration(ms)*time.Millisecond, longestVerify)
}

// exportGroup streams one group's state.
func (g *GRPC) exportGroup(_ any, stream grpc.ServerStream) error {
	q := new(waystationv1.ExportGroupRequest)
	if err := receive(stream, q); err != nil {
		return grpcError(err)
	}
	err := g.calls.cluster.Export(stream.Context(), q.GetGroup(), func(r *waystationv1.ExportGroupResponse) error { return stream.SendMsg(r) })
	if err != nil {
		return grpcError(err)
	}
	return nil
}
