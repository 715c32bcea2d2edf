//go:build cgo

package server

// outsideHeap says that the stores take their memory from C.
const outsideHeap = true
