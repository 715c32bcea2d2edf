package fleet

import "fmt"

// Between says what stands between nodes that can be cut off each other.
type Between string

// The kinds of networks.
const (
	// Auto is namespaces where there are rights to make them, else proxies.
	Auto       Between = "auto"
	Namespaces Between = "namespaces"
	Proxies    Between = "proxies"
)

// NewNetwork returns a network of which nodes can be cut off, and says which. dir
// takes its files.
func NewNetwork(dir string, kind Between) (Network, string, error) {
	if kind == Proxies || !InNamespace() {
		return newProxies(), "with proxies between them", nil
	}
	n, err := newNamespaces(dir)
	if err != nil {
		return nil, "", fmt.Errorf("make network namespaces: %w", err)
	}
	return n, "in network namespaces of their own", nil
}
