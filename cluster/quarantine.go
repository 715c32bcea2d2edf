package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waystation/waystation/storage"
)

// Damaged stops the replica whose records a store found to be damaged: it is
// quarantined, and stays so over restarts, until RemoveGroup clears it away for a
// successor. This is the one way in for whoever finds damage, in log or state: it
// may be called from any goroutine, at any time, more than once, and does not
// block; a group that does not run here is ignored. It fits into
// storage.StateConfig.
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

// maxQuarantineReason bounds the text that is kept of a quarantine, in bytes.
const maxQuarantineReason = 500

func quarantineKey(g storage.GroupID) []byte {
	return binary.BigEndian.AppendUint32([]byte("quarantine/"), uint32(g))
}

// keepQuarantine has a quarantine synced, so that the replica does not come back to
// vote after a restart, when nobody has met the damage yet. The only voter of a
// group has nobody to be replaced from: it may try again. It does not block.
func (g *group) keepQuarantine(err error) {
	s := g.status.Load()
	if !errors.Is(err, ErrQuarantined) || s.Conf == nil || s.SoleVoter {
		return
	}
	text := err.Error()
	value := append(binary.BigEndian.AppendUint64([]byte{1}, uint64(g.replica)), text[:min(len(text), maxQuarantineReason)]...)
	g.engine.writer.order(func(b *storage.LogBatch) { b.PutNode(quarantineKey(g.id), value) }, nil)
}

// quarantined returns why replica id of group g was quarantined before, nothing if
// it was not.
func quarantined(log *storage.Log, g storage.GroupID, id storage.ReplicaID) (why string, err error) {
	v, err := log.Node(quarantineKey(g))
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case len(v) < 9 || v[0] != 1:
		return "", fmt.Errorf("quarantine record of group %d: %w", g, storage.ErrCorrupt)
	case storage.ReplicaID(binary.BigEndian.Uint64(v[1:])) != id:
		return "", nil // of one before it
	}
	return string(v[9:]), nil
}

// quarantines counts the replicas that are quarantined.
func (e *Engine) quarantines() float64 {
	n := 0
	for _, g := range e.list() {
		if f := g.failure.Load(); f != nil && errors.Is(f.err, ErrQuarantined) {
			n++
		}
	}
	return float64(n)
}
