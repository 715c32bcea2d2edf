//go:build !cgo

package server

// outsideHeap says that the stores take their memory from Go's heap.
const outsideHeap = false
