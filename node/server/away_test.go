package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/node/server"
)

// TestLostNodeIsReplaced: the copies of a node that is gone for too long are made
// on another one.
func TestLostNodeIsReplaced(t *testing.T) {
	t.Parallel()
	soon := server.Hooks{ReplaceAfter: 4 * time.Second}
	first := startWith(t, dataDir(t), soon)
	var others []*node
	for _, name := range []string{"second", "third", "fourth"} {
		others = append(others, startWith(t, dataDir(t), soon, joining(first, name)))
	}
	await(t, "three copies", func() bool { return replicated(first.describe(), 3) })
	first.publish("acme/api", "x")
	others[0].stop()
	gone := others[0].NodeID
	await(t, "three copies on those that are left", func() bool {
		d := first.describe()
		for _, p := range d.GetPartitions() {
			if strings.Contains(strings.Join(p.GetVoters(), " "), gone) {
				return false
			}
		}
		return replicated(d, 3)
	})
}

// TestBackFromALongAbsence: a node that comes back after others have dropped what
// it lacks gets a snapshot, and is a full copy again.
func TestBackFromALongAbsence(t *testing.T) {
	t.Parallel()
	little := server.Hooks{HoldBytes: 16 << 10}
	first, dir := startWith(t, dataDir(t), little), dataDir(t)
	second := startWith(t, dir, little, joining(first, "second"))
	startWith(t, dataDir(t), little, joining(first, "third"))
	await(t, "three copies", func() bool { return replicated(first.describe(), 3) })
	second.stop()
	content := strings.Repeat("x", 8<<10)
	for i := range 64 {
		first.publish(fmt.Sprintf("acme/r%d", i%8), content)
	}
	second = startWith(t, dir, little, joining(first, "second"))
	await(t, "three copies again", func() bool { return replicated(second.describe(), 3) })
	second.publish("acme/r0", content)
	var page struct{ Head string }
	if status := second.http("GET", "/v1/repos/acme/r1", "", &page); status != 200 {
		t.Errorf("a repository: %d", status)
	}
}
