package drive

import (
	"context"

	"github.com/waystation/waystation/loadtest/options"
	"github.com/waystation/waystation/loadtest/report"
	"github.com/waystation/waystation/loadtest/verify"
)

// scenario is a course of events with a question of its own.
type scenario interface {
	// happen lets it happen while there is load, until ctx ends.
	happen(ctx context.Context) error
	// conclude answers the question at the end. What it found to be violated, it adds
	// to the totals.
	conclude(t *verify.Totals) *report.Scenario
}

// newScenario prepares what was asked for; nil if nothing was.
func newScenario(r *run) scenario {
	switch r.o.Scenario.Name {
	case options.WorkersDie:
		return newMortals(r)
	case options.Isolation:
		return newIsolation(r)
	case options.Backlog:
		return newBacklog(r)
	}
	return nil
}
