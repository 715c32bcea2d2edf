package memstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/waystation/waystation/storage"
)

var errDamaged = errors.New("damaged on purpose")

// view reads one root.
type view struct{ root *node }

type nothingToClose struct{}

func (nothingToClose) Close() error { return nil }

func (v view) Get(key []byte) ([]byte, io.Closer, error) {
	n := seek(v.root, key)
	if n == nil || !bytes.Equal(n.key, key) {
		return nil, nil, storage.ErrNotFound
	}
	value, err := n.read()
	return value, nothingToClose{}, err
}

func (n *node) read() ([]byte, error) {
	if n.damaged {
		return nil, &storage.CorruptError{Store: "memory", Key: bytes.Clone(n.key), Err: errDamaged}
	}
	return n.value, nil
}

func (v view) Iter(lower, upper []byte) (storage.KVIter, error) {
	return &iter{root: v.root, lower: bytes.Clone(lower), upper: bytes.Clone(upper)}, nil
}

func (v view) Close() error { return nil }

// rangeView reads a range of one root.
type rangeView struct {
	view
	lower, upper []byte
}

func (v rangeView) Get(key []byte) ([]byte, io.Closer, error) {
	if bytes.Compare(key, v.lower) < 0 || bytes.Compare(key, v.upper) >= 0 {
		return nil, nil, fmt.Errorf("%w: key %x in a snapshot of %x to %x", storage.ErrRange, key, v.lower, v.upper)
	}
	return v.view.Get(key)
}

func (v rangeView) Iter(lower, upper []byte) (storage.KVIter, error) {
	if lower == nil {
		lower = v.lower
	}
	if upper == nil {
		upper = v.upper
	}
	if bytes.Compare(lower, v.lower) < 0 || bytes.Compare(upper, v.upper) > 0 {
		return nil, fmt.Errorf("%w: keys %x to %x in a snapshot of %x to %x", storage.ErrRange, lower, upper, v.lower, v.upper)
	}
	return v.view.Iter(lower, upper)
}

// iter finds each next key from the root: that is slower than a stack of parents, and has
// nothing to keep in step.
type iter struct {
	root         *node
	lower, upper []byte
	at           *node
}

func (i *iter) move(n *node) bool {
	i.at = n
	if n == nil || i.upper != nil && bytes.Compare(n.key, i.upper) >= 0 || bytes.Compare(n.key, i.lower) < 0 {
		i.at = nil
	}
	return i.at != nil
}

func (i *iter) First() bool { return i.move(seek(i.root, i.lower)) }

func (i *iter) Last() bool { return i.move(before(i.root, i.upper)) }

func (i *iter) Next() bool {
	if i.at == nil {
		return false
	}
	return i.move(seek(i.root, after(i.at.key)))
}

func (i *iter) SeekGE(key []byte) bool {
	if bytes.Compare(key, i.lower) < 0 {
		key = i.lower
	}
	return i.move(seek(i.root, key))
}

func (i *iter) Key() []byte { return i.at.key }

func (i *iter) ValueAndErr() ([]byte, error) { return i.at.read() }

func (i *iter) Error() error { return nil }

func (i *iter) Close() error { return nil }
