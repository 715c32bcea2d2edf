package discovery

import (
	"encoding/hex"
	"fmt"

	"github.com/waystation/waystation/cluster/meta"
)

// ParseClusterID reads what meta.ClusterID's String wrote; the zero id is refused.
func ParseClusterID(s string) (meta.ClusterID, error) {
	var id meta.ClusterID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("parse cluster id %q: not %d hexadecimal digits", s, 2*len(id))
	}
	copy(id[:], b)
	if id.IsZero() {
		return id, fmt.Errorf("parse cluster id %q: zero", s)
	}
	return id, nil
}
