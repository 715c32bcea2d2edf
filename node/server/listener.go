package server

import (
	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// listener tells the delivery service what happens in the partitions, and the
// node when leaderships change.
type listener struct {
	delivery *actors.DeliveryService
	changed  chan struct{} // one place
}

// LeaderStarted implements actors.PartitionListener.
func (l *listener) LeaderStarted(p *actors.Partition, term uint64) {
	l.delivery.LeaderStarted(p, term)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// LeaderStopped implements actors.PartitionListener.
func (l *listener) LeaderStopped(p *actors.Partition, term uint64) { l.delivery.LeaderStopped(p, term) }

// Lanes implements actors.PartitionListener.
func (l *listener) Lanes(p *actors.Partition, events []repository.LaneEvent) {
	l.delivery.Lanes(p, events)
}
