package memstore

import (
	"bytes"
)

// node is a treap that is never changed once it can be seen: a write copies the path to what
// it changes, and every old root stays a whole snapshot. A priority is a hash of the key, so
// the shape depends on the content alone, never on the order of the writes.
type node struct {
	key, value  []byte
	damaged     bool
	priority    uint64
	left, right *node
}

// priority is FNV-1a with a final mix: any fixed hash will do, but one that differs from
// process to process, as maphash does, would make a simulation hard to compare.
func priority(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// split parts a tree into keys below key and keys at or above it.
func split(n *node, key []byte) (below, rest *node) {
	if n == nil {
		return nil, nil
	}
	c := *n
	if bytes.Compare(n.key, key) < 0 {
		c.right, rest = split(n.right, key)
		return &c, rest
	}
	below, c.left = split(n.left, key)
	return below, &c
}

// join puts together two trees, all of whose keys are in order.
func join(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority >= b.priority:
		c := *a
		c.right = join(a.right, b)
		return &c
	}
	c := *b
	c.left = join(a, b.left)
	return &c
}

func set(root *node, n *node) *node {
	below, rest := split(root, n.key)
	_, above := split(rest, after(n.key))
	return join(join(below, n), above)
}

func deleteRange(root *node, lower, upper []byte) *node {
	if bytes.Compare(lower, upper) >= 0 {
		return root
	}
	below, rest := split(root, lower)
	_, above := split(rest, upper)
	return join(below, above)
}

// after is the smallest key above key.
func after(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), key...), 0)
}

// seek returns the first node at or above key; nil is the lowest key.
func seek(root *node, key []byte) *node {
	var found *node
	for n := root; n != nil; {
		if bytes.Compare(n.key, key) >= 0 {
			found, n = n, n.left
		} else {
			n = n.right
		}
	}
	return found
}

// before returns the last node below key; nil is above all keys.
func before(root *node, key []byte) *node {
	var found *node
	for n := root; n != nil; {
		if key == nil || bytes.Compare(n.key, key) < 0 {
			found, n = n, n.right
		} else {
			n = n.left
		}
	}
	return found
}
