package copies

import (
	"context"
	"errors"
	"fmt"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/storage"
)

// sum sums this node's replica of a group right after entry index, once armed was
// told that it waits for it. The answer says what is wrong; an error is armed's.
func (c *Copies) sum(ctx context.Context, g storage.GroupID, index uint64, armed func() error) (*peerv1.VerifyResponse, error) {
	shot, err := c.cfg.Engine.ArmPhoto(g, index)
	if errors.Is(err, cluster.ErrPassed) {
		return &peerv1.VerifyResponse{Passed: true, Index: c.cfg.Engine.Status(g).Applied}, nil
	}
	if err != nil {
		return c.failed(g, err), nil
	}
	defer shot.Close()
	if err := armed(); err != nil {
		return nil, err
	}
	photo, err := shot.Wait(ctx)
	if errors.Is(err, cluster.ErrPassed) { // a snapshot took it further
		return &peerv1.VerifyResponse{Passed: true, Index: c.cfg.Engine.Status(g).Applied}, nil
	}
	if err != nil {
		return c.failed(g, err), nil
	}
	defer photo.Close()
	out, err := c.read(ctx, g, photo)
	if err != nil {
		return c.failed(g, err), nil
	}
	return out, nil
}

// failed is the answer for a replica that cannot be read. One that is damaged is
// given up, if there are others.
func (c *Copies) failed(g storage.GroupID, err error) *peerv1.VerifyResponse {
	out := &peerv1.VerifyResponse{Error: err.Error(), Damaged: damaged(err)}
	if out.GetDamaged() {
		given := c.cfg.Damaged(g, err)
		c.cfg.Logger.Error("replica is damaged", "group", g, "given_up", given, "err", err)
	}
	return out
}

func (c *Copies) read(ctx context.Context, g storage.GroupID, photo *cluster.Photo) (*peerv1.VerifyResponse, error) {
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	pace := newPacer(ctx, c.cfg.BytesPerSecond)
	local := repository.Local
	if g == meta.MetaGroup {
		local = nil
	}
	sum, err := storage.Checksum(ctx, paced{photo.State, pace}, photo.Lower, photo.Upper, local)
	if err == nil && pace.failed != nil {
		err = pace.failed
	}
	if err != nil {
		return nil, fmt.Errorf("read replica: %w", err)
	}
	out := &peerv1.VerifyResponse{Index: photo.At.Index, Checksum: sum.CRC64, Records: sum.Keys, Bytes: sum.Bytes}
	if p := c.partition(g); p != nil {
		if out.Payloads, err = p.Check(photo.State, pace.pace); err != nil {
			return nil, fmt.Errorf("read payloads: %w", err)
		}
	}
	return out, nil
}

// paced reads at a pacer's rate.
type paced struct {
	storage.Reader
	pacer *pacer
}

// Scan implements storage.Reader.
func (p paced) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	return p.Reader.Scan(lower, upper, func(k, v []byte) bool {
		if p.pacer.failed = p.pacer.pace(len(k) + len(v)); p.pacer.failed != nil {
			return false
		}
		return visit(k, v)
	})
}
