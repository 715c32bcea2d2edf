// Package server makes a node of its parts: it opens the stores, joins engine and
// actors, serves the API, and takes it all down again in order.
//
// It is the one place where actors and cluster meet: neither knows the other.
// What each start does, in order: lock the data folder, listen, open the stores,
// raise the boot counter, run the meta group and record the start in it, open the
// partitions, bring settings and groups into each, and only then serve.
package server
