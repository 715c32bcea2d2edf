package copies

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/storage"
)

// service answers the calls of other nodes.
type service struct {
	peerv1.UnimplementedCopiesServer
	c *Copies
}

// Verify implements peerv1.CopiesServer.
func (s *service) Verify(q *peerv1.VerifyRequest, stream grpc.ServerStreamingServer[peerv1.VerifyResponse]) error {
	out, err := s.c.sum(stream.Context(), storage.GroupID(q.GetGroup()), q.GetIndex(), func() error {
		return stream.Send(&peerv1.VerifyResponse{})
	})
	if err != nil {
		return err
	}
	return stream.Send(out)
}

// Advance implements peerv1.CopiesServer.
func (s *service) Advance(ctx context.Context, q *peerv1.AdvanceRequest) (*peerv1.AdvanceResponse, error) {
	if err := s.c.advance(ctx, storage.GroupID(q.GetGroup()), q.GetIndex()); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &peerv1.AdvanceResponse{Applied: s.c.cfg.Engine.Status(storage.GroupID(q.GetGroup())).Applied}, nil
}

// Export implements peerv1.CopiesServer.
func (s *service) Export(q *peerv1.ExportRequest, stream grpc.ServerStreamingServer[peerv1.ExportResponse]) error {
	err := s.c.exportHere(stream.Context(), storage.GroupID(q.GetGroup()), func(r *waystationv1.ExportGroupResponse) error {
		return stream.Send(&peerv1.ExportResponse{Head: r.GetHead(), Data: r.GetData()})
	})
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}

// advance proposes entries without effect until entry index is applied here.
func (c *Copies) advance(ctx context.Context, g storage.GroupID, index uint64) error {
	for c.cfg.Engine.Status(g).Applied < index {
		if err := c.nudge(ctx, g); err != nil {
			return fmt.Errorf("advance group %d: %w", g, err)
		}
	}
	return nil
}

// nudge has one entry applied that changes nothing, or what is due anyway.
func (c *Copies) nudge(ctx context.Context, g storage.GroupID) error {
	if g == meta.MetaGroup {
		return c.cfg.Calls.RaiseFeature(ctx, c.cfg.Meta.View().Cluster.FeatureLevel)
	}
	p := c.partition(g)
	if p == nil {
		return errNoGroup
	}
	done := make(chan error, 1)
	p.Command(func(b *repository.EntryBuilder) { b.AddExpire(1) }, func(_ *repository.Results, err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
