package cluster

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/storage"
)

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
