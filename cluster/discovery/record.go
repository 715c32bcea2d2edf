package discovery

import (
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/discovery/expect"
	"github.com/waystation/waystation/storage"
)

// promiseKey is the promise's among the node's own records in `log`.
func promiseKey() []byte { return []byte("bootstrap promise") }

// LoadPromise returns what this data folder has promised, or nil.
func LoadPromise(log *storage.Log) (*expect.Proposal, error) {
	b, err := log.Node(promiseKey())
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read bootstrap promise: %w", err)
	}
	p, err := expect.ParseProposal(b)
	if err != nil {
		return nil, fmt.Errorf("read bootstrap promise: %w", err)
	}
	return &p, nil
}

// SavePromise makes a promise durable. A data folder makes one, once: another one
// than it has made is an error.
func SavePromise(log *storage.Log, p expect.Proposal) error {
	had, err := LoadPromise(log)
	if err != nil {
		return err
	}
	if had != nil {
		if had.Equal(p) {
			return nil
		}
		return fmt.Errorf("%w: this data folder has promised to make cluster %s, not %s", expect.ErrApart, had.Cluster, p.Cluster)
	}
	batch := log.NewBatch()
	batch.PutNode(promiseKey(), p.Encode())
	if err := batch.Commit(true); err != nil {
		return fmt.Errorf("write bootstrap promise: %w", err)
	}
	return nil
}
