package client

import (
	"fmt"
	"maps"
	"unicode/utf8"
)

// WithWorkerVersion says which version of its program the worker is, for who looks
// at the workers: at most 128 bytes (empty).
func WithWorkerVersion(version string) WorkOption {
	return func(c *workConfig) { c.version = version }
}

// WithWorkerWeight sets the worker's share of a group's packets relative to others
// of the group. 0, the default, is 1.
func WithWorkerWeight(weight uint32) WorkOption {
	return func(c *workConfig) { c.weight = weight }
}

// WithWorkerMetadata says what else there is to know of the worker, such as the
// machine or the model that it has loaded: at most 16 pairs and 4 KiB. The map is
// copied.
func WithWorkerMetadata(metadata map[string]string) WorkOption {
	metadata = maps.Clone(metadata)
	return func(c *workConfig) { c.metadata = metadata }
}

func checkWorkerMetadata(metadata map[string]string) error {
	size := 0
	for k, v := range metadata {
		size += len(k) + len(v)
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("worker metadata: %q is empty, or it or its value is not UTF-8", k)
		}
	}
	if len(metadata) > maxWorkerPairs || size > maxWorkerBytes {
		return fmt.Errorf("worker metadata: %d pairs of %d bytes, at most %d and %d", len(metadata), size, maxWorkerPairs, maxWorkerBytes)
	}
	return nil
}
