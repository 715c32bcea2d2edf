package route

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what passes.
type metrics struct {
	forwarded prometheus.Counter
	refused   prometheus.Counter
}

func (m *metrics) register(reg prometheus.Registerer, r *Router) error {
	m.forwarded = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "waystation_route_forwarded_packets_total", Help: "Packets sent on to their partition's leader.",
	})
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "waystation_route_refused_packets_total", Help: "Packets refused here, for want of a leader or of credit.",
	})
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "waystation_route_unanswered_packets", Help: "Packets that were sent on and have no answer.",
	}, func() float64 { return float64(r.unanswered()) })
	return errors.Join(reg.Register(m.forwarded), reg.Register(m.refused), reg.Register(waiting))
}

func (r *Router) unanswered() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.links {
		l.mu.Lock()
		n += l.slots.open
		l.mu.Unlock()
	}
	return n
}
