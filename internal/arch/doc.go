// Package arch holds the tests that hold the tree to its architecture: who may
// import whom, and which packages are deterministic.
package arch
