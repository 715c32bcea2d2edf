package route

import (
	"context"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/node/api"
)

// Open implements api.Delivery.
func (x routedDelivery) Open(ctx context.Context, cfg actors.SessionConfig) (api.Session, error) {
	return x.r.delivery.Open(ctx, cfg)
}

// Pull implements api.Delivery.
func (x routedDelivery) Pull(ctx context.Context, cfg actors.PullConfig) ([]actors.Delivery, error) {
	return x.r.delivery.Pull(ctx, cfg)
}
