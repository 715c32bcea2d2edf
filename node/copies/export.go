package copies

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/identity"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/storage"
)

// exportChunk is the size of a part of an export, in bytes.
const exportChunk = 256 << 10

// Export sends a group's state with all payloads that it refers to, from the node
// that leads it: head first, then the range stream in parts. send blocks as the
// receiver does; the parts are valid during it only.
func (c *Copies) Export(ctx context.Context, g storage.GroupID, send func(*waystationv1.ExportGroupResponse) error) error {
	if int(g) > len(c.cfg.Partitions) {
		return fmt.Errorf("export group %d: %w", g, errNoGroup)
	}
	leader, _, err := c.leader(ctx, g)
	if err != nil {
		return fmt.Errorf("export group %d: %w", g, err)
	}
	sent, broken := false, error(nil)
	err = follow(ctx, leader, func(n identity.NodeID) error {
		err := c.exportFrom(ctx, g, n, func(r *waystationv1.ExportGroupResponse) error {
			sent = true
			return send(r)
		})
		if sent { // nobody else could go on with it
			broken = err
			return nil
		}
		return err
	}, func() (identity.NodeID, error) {
		n, _, err := c.leader(ctx, g)
		return n, err
	})
	return errors.Join(broken, err)
}

func (c *Copies) exportFrom(ctx context.Context, g storage.GroupID, n identity.NodeID, send func(*waystationv1.ExportGroupResponse) error) error {
	if n == c.cfg.Self {
		return c.exportHere(ctx, g, send)
	}
	peer, err := c.peer(n)
	if err != nil {
		return fmt.Errorf("export group %d: %w", g, err)
	}
	stream, err := peer.Export(ctx, &peerv1.ExportRequest{Group: uint32(g)})
	if err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(&waystationv1.ExportGroupResponse{Head: r.GetHead(), Data: r.GetData()}); err != nil {
			return err
		}
	}
}

func (c *Copies) exportHere(ctx context.Context, g storage.GroupID, send func(*waystationv1.ExportGroupResponse) error) error {
	if !c.cfg.Engine.Status(g).Leads {
		return fmt.Errorf("export group %d: this node does not lead it", g)
	}
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	// What was acknowledged before the call is in the export.
	if err := c.settled(ctx, g); err != nil {
		return fmt.Errorf("export group %d: %w", g, err)
	}
	photo, err := c.cfg.Engine.WholePhoto(ctx, g)
	if err != nil {
		return err
	}
	defer photo.Close()
	view := c.cfg.Meta.View()
	head := &waystationv1.GroupHead{
		ClusterId: slices.Clone(view.Cluster.ID[:]), ClusterName: view.Cluster.Name, Partitions: uint32(view.Cluster.Partitions),
		HashSeed: view.Cluster.HashSeed, Group: uint32(g), Index: photo.At.Index, Term: photo.At.Term, Conf: photo.Conf.Marshal(),
		Format: storage.StateFormat,
	}
	if p := c.partition(g); p != nil {
		_ = p.View(func(m *repository.Machine) error { head.LogTimeMs = m.LogTime(); return nil }) // the callback has no error
	}
	if err := send(&waystationv1.ExportGroupResponse{Head: head}); err != nil {
		return err
	}
	out := bufio.NewWriterSize(partWriter{send, newPacer(ctx, c.cfg.BytesPerSecond)}, exportChunk)
	if _, err := storage.ExportRange(out, photo.State, photo.Lower, photo.Upper); err != nil {
		if errors.Is(err, storage.ErrCorrupt) {
			return errors.New(c.failed(g, err).GetError())
		}
		return err
	}
	return out.Flush()
}

// settled returns once all that was acknowledged is applied here.
func (c *Copies) settled(ctx context.Context, g storage.GroupID) error {
	done := make(chan error, 1)
	c.cfg.Engine.ReadIndex(g, func(_ uint64, err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// partWriter sends what it is given.
type partWriter struct {
	send  func(*waystationv1.ExportGroupResponse) error
	pacer *pacer
}

func (w partWriter) Write(b []byte) (int, error) {
	if err := w.pacer.pace(len(b)); err != nil {
		return 0, err
	}
	if err := w.send(&waystationv1.ExportGroupResponse{Data: b}); err != nil {
		return 0, err
	}
	return len(b), nil
}
