package server_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/storage"
)

// spoil writes nonsense over the settings of partition 0, in the state of a data
// folder that no node runs on.
func spoil(t *testing.T, dir string) {
	t.Helper()
	state, err := storage.OpenState(storage.DefaultStateConfig(filepath.Join(dir, "state")))
	if err != nil {
		t.Fatal(err)
	}
	b := state.NewBatch()
	b.Set([]byte{0, 0, 1, 'c'}, []byte{0xff})
	for _, err := range []error{b.Commit(), state.Flush(), state.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (n *node) metric(name string) string {
	n.t.Helper()
	resp, err := http.Get("http://" + n.Addresses.HTTP + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (n *node) state(name string) string {
	n.t.Helper()
	for _, x := range n.describe().GetNodes() {
		if x.GetName() == name {
			return x.GetState()
		}
	}
	return ""
}

// TestUnreadablePartitionOfOneNode: the node starts, says which partition it is,
// and serves the others.
func TestUnreadablePartitionOfOneNode(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	n := start(t, dir)
	served := map[string]bool{}
	for i := range 16 {
		n.publish(fmt.Sprintf("acme/r%d", i), "x")
	}
	n.stop()
	spoil(t, dir)
	n = start(t, dir)
	if got := n.state("test"); got != "quarantined: partition 0" {
		t.Errorf("the node is %q", got)
	}
	if got := n.metric("waystation_cluster_quarantined_replicas"); got != "1" {
		t.Errorf("%s replicas are quarantined", got)
	}
	for i := range 16 {
		repo := fmt.Sprintf("acme/r%d", i)
		served[repo] = n.http("GET", "/v1/repos/"+repo+"/packets/1", "", nil) == http.StatusOK
	}
	good := 0
	for _, ok := range served {
		if ok {
			good++
		}
	}
	if good == 0 || good == len(served) {
		t.Errorf("%d of %d repositories are served", good, len(served))
	}
}

// TestUnreadablePartitionIsRebuilt: in a cluster its replica gets a successor, and
// the node is a full copy again.
func TestUnreadablePartitionIsRebuilt(t *testing.T) {
	t.Parallel()
	dirs := [3]string{dataDir(t), dataDir(t), dataDir(t)}
	nodes := trio(t, dirs)
	for i := range 8 {
		nodes[0].publish(fmt.Sprintf("acme/r%d", i), "x")
	}
	nodes[2].stop()
	spoil(t, dirs[2])
	nodes[2] = start(t, dirs[2], joining(nodes[0], "third"))
	awaitLong(t, "three whole copies", func() bool {
		return replicated(nodes[0].describe(), 3) && len(faults(nodes[1].verify(), 3)) == 0
	})
	if ops := fmt.Sprint(nodes[0].describe().GetOperations()); !strings.Contains(ops, "quarantined") {
		t.Errorf("no replica was replaced: %s", ops)
	}
	await(t, "the node to be well again", func() bool { return nodes[0].state("third") == "up" })
}
