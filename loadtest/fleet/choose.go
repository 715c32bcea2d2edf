package fleet

import (
	"errors"
	"fmt"
)

// NewNetwork returns a network of which nodes can be cut off, and says which. dir
// takes its files.
func NewNetwork(dir string) (Network, string, error) {
	if InNamespace() {
		n, err := newNamespaces(dir)
		if err != nil {
			return nil, "", fmt.Errorf("make network namespaces: %w", err)
		}
		return n, "in network namespaces of their own", nil
	}
	return nil, "", errors.New("nodes are cut off each other in network namespaces, for which this system or user has no rights: run it on Linux with the ip command, as root or with user namespaces, or leave the fault out")
}
