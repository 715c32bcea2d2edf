package server

import (
	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
)

// listener tells the delivery service what happens in the partitions, and the
// node when leaderships change.
type listener struct {
	delivery *actors.DeliveryService
	raise    func(logTimeMs int64)
	changed  chan struct{} // one place
}

// LeaderStarted implements actors.PartitionListener.
func (l *listener) LeaderStarted(p *actors.Partition, term uint64) {
	// What earlier leaders have seen of time must not come again.
	_ = p.View(func(m *repository.Machine) error { l.raise(m.LogTime()); return nil }) // the callback has no error
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
