package member

import (
	"context"
	"sync"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
)

// Reports asks all nodes at once what their replicas do, this one too. Who does
// not answer before ctx ends is missing.
func (m *Member) Reports(ctx context.Context) map[identity.NodeID]*peerv1.ReportResponse {
	out := map[identity.NodeID]*peerv1.ReportResponse{m.cfg.Identity.Node: m.report()}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, n := range m.parts.Load().Meta.View().Nodes {
		if n.ID == m.cfg.Identity.Node || n.State == meta.NodeRemoved {
			continue
		}
		wait.Go(func() {
			r, err := m.reportOf(ctx, n.ID)
			if err != nil {
				m.log.Debug("no report", "node", n.Name, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[n.ID] = r
		})
	}
	wait.Wait()
	return out
}

func (m *Member) reportOf(ctx context.Context, n identity.NodeID) (*peerv1.ReportResponse, error) {
	addr, ok := m.callee(n)
	if !ok {
		return nil, errNoAddress
	}
	peer, err := m.pool.Peer(addr)
	if err != nil {
		return nil, err
	}
	return peer.Report(ctx, &peerv1.ReportRequest{})
}
