package storage

import (
	"errors"
	"fmt"
)

// reader makes a Reader of a KVReader.
type reader struct {
	r  KVReader
	kv KV
}

// Get returns a copy of the value, which belongs to the caller, or ErrNotFound.
func (r *reader) Get(key []byte) ([]byte, error) { return r.AppendGet(nil, key) }

// AppendGet appends the value to dst: Get without an allocation. Without such a key it
// returns dst and ErrNotFound.
func (r *reader) AppendGet(dst, key []byte) ([]byte, error) {
	v, closer, err := r.r.Get(key)
	if errors.Is(err, ErrNotFound) {
		return dst, ErrNotFound // the common answer of a filter's false positive: no wrapping
	}
	if err != nil {
		return dst, fmt.Errorf("read state key %x: %w", key, err)
	}
	if dst == nil {
		dst = make([]byte, 0, len(v)) // so that an empty value is not nil
	}
	dst = append(dst, v...)
	return dst, closer.Close()
}

// Scan visits the keys in [lower, upper) in order until visit returns false.
func (r *reader) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	it, err := r.r.Iter(lower, upper)
	if err != nil {
		return fmt.Errorf("scan state: %w", err)
	}
	return walk(it, nil, visit)
}

type failedReader struct{ err error }

func (r failedReader) Get([]byte) ([]byte, error) { return nil, r.err }

func (r failedReader) Scan([]byte, []byte, func(k, v []byte) bool) error { return r.err }
