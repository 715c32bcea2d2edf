package server

import (
	"context"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/node/api"
)

// delivery is the delivery service as the API wants it: with its sessions behind
// an interface, so that the API's tests need no partitions.
type delivery struct{ *actors.DeliveryService }

// Open implements api.Delivery.
func (d delivery) Open(ctx context.Context, cfg actors.SessionConfig) (api.Session, error) {
	s, err := d.DeliveryService.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}
