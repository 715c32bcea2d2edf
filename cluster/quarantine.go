package cluster

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/storage"
)

// Damaged stops the replica whose records a store found to be damaged: it is
// quarantined. It fits into storage.StateConfig.
func (e *Engine) Damaged(d storage.Damage) {
	if gr := e.group(d.Group); gr != nil {
		gr.fail(fmt.Errorf("%w: %w", ErrQuarantined, d.Err))
	}
}

// Ranges returns where the keys of all groups lie that run here, likewise.
func (e *Engine) Ranges() []storage.GroupRange {
	var out []storage.GroupRange
	for _, g := range e.list() {
		lower, upper := g.sm.KeyRange()
		out = append(out, storage.GroupRange{Group: g.id, Lower: lower, Upper: upper})
	}
	return out
}

// quarantine marks an error after which a replica's log or state can no longer
// be relied on: it is damaged, or the two do not fit together. The replica
// neither votes nor acknowledges any more, and is to be replaced by one under a
// new id. Whatever else stops a replica would stop its successor as well.
func quarantine(err error) error {
	if errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, ErrQuarantined) {
		return fmt.Errorf("%w: %w", ErrQuarantined, err)
	}
	return err
}
