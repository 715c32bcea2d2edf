package transport

import (
	"maps"
	"sync"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

// maxRoutes bounds what is learned; there is one route for a replica.
const maxRoutes = 1 << 16

type replicaKey struct {
	group   storage.GroupID
	replica storage.ReplicaID
}

// routes remembers where messages of replicas came from that the resolver does
// not know: a new replica answers its leader before it has read meta's map.
type routes struct {
	mu sync.RWMutex
	to map[replicaKey]identity.NodeID
}

func (r *routes) find(g storage.GroupID, id storage.ReplicaID) (identity.NodeID, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, ok := r.to[replicaKey{g, id}]
	return n, ok
}

// learn remembers that a message of the replica came from n. It says false if
// it lives elsewhere: replicas do not move.
func (r *routes) learn(g storage.GroupID, id storage.ReplicaID, n identity.NodeID) bool {
	if known, ok := r.find(g, id); ok {
		return known == n
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to == nil || len(r.to) >= maxRoutes {
		r.to = map[replicaKey]identity.NodeID{}
	}
	r.to[replicaKey{g, id}] = n
	return true
}

func (r *routes) forget(n identity.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.to, func(_ replicaKey, at identity.NodeID) bool { return at == n })
}
