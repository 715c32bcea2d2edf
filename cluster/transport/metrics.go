package transport

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Why messages are dropped.
const (
	dropFull    = "full"        // the queue for the peer was
	dropDown    = "unreachable" // the peer was
	dropBroken  = "broken"      // the connection broke while they were written
	dropUnknown = "unknown"     // nobody knows where the replica lives
	dropLarge   = "large"       // over MessageBytes
	dropForeign = "foreign"     // received from a node where the sender does not live
)

type metrics struct {
	framesSent, framesReceived     prometheus.Counter
	messagesSent, messagesReceived prometheus.Counter
	bytesSent, bytesReceived       prometheus.Counter
	dropped                        *prometheus.CounterVec
	connects                       prometheus.Counter
	disconnects                    prometheus.Counter
	refused                        prometheus.Counter
	foreign                        prometheus.Counter
	damaged                        prometheus.Counter
	snapshotsSent                  prometheus.Counter
	snapshotsReceived              prometheus.Counter
	snapshotsFailed                prometheus.Counter
	snapshotBytes                  prometheus.Counter
	roundTrip                      prometheus.Histogram
	peers, queued                  prometheus.GaugeFunc
}

func newMetrics(r prometheus.Registerer, peers, queued func() float64) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "waystation", Subsystem: "transport", Name: name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "waystation", Subsystem: "transport", Name: name, Help: help}, f)
	}
	m := &metrics{
		framesSent:       counter("frames_sent_total", "Frames of raft messages written to peers."),
		framesReceived:   counter("frames_received_total", "Frames of raft messages read from peers."),
		messagesSent:     counter("messages_sent_total", "Raft messages written to peers."),
		messagesReceived: counter("messages_received_total", "Raft messages read from peers."),
		bytesSent:        counter("sent_bytes_total", "Bytes of raft messages written to peers."),
		bytesReceived:    counter("received_bytes_total", "Bytes of raft messages read from peers."),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "waystation", Subsystem: "transport", Name: "messages_dropped_total",
			Help: "Raft messages that were dropped, by reason. Raft sends them again.",
		}, []string{"reason"}),
		connects:          counter("connects_total", "Connections to peers that were made."),
		disconnects:       counter("disconnects_total", "Connections to peers that broke."),
		refused:           counter("refused_total", "Hellos that were refused, here or by peers."),
		foreign:           counter("foreign_connections_total", "Connections closed because they spoke something else, or nothing."),
		damaged:           counter("damaged_frames_total", "Connections closed because of a frame that made no sense."),
		snapshotsSent:     counter("snapshots_sent_total", "Snapshots that a peer took."),
		snapshotsReceived: counter("snapshots_received_total", "Snapshots taken from peers."),
		snapshotsFailed:   counter("snapshots_failed_total", "Snapshots that failed, sent or received."),
		snapshotBytes:     counter("snapshot_sent_bytes_total", "Bytes of snapshots written to peers."),
		roundTrip: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "waystation", Subsystem: "transport", Name: "round_trip_seconds",
			Help:    "Travel time of a ping and its pong.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}),
		peers:  gauge("connected_peers", "Peers that this node has a connection to.", peers),
		queued: gauge("queued_bytes", "Bytes of raft messages that wait for all peers.", queued),
	}
	for _, c := range m.all() {
		if err := r.Register(c); err != nil {
			m.unregister(r)
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.framesSent, m.framesReceived, m.messagesSent, m.messagesReceived, m.bytesSent, m.bytesReceived, m.dropped,
		m.connects, m.disconnects, m.refused, m.foreign, m.damaged,
		m.snapshotsSent, m.snapshotsReceived, m.snapshotsFailed, m.snapshotBytes, m.roundTrip, m.peers, m.queued,
	}
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.all() {
		r.Unregister(c)
	}
}
