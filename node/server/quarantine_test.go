package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/node/backup"
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
	if got := n.state("test"); got != "quarantined: partition 0; no other copy: see recover" {
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
	await(t, "a packet for a worker", func() bool { return len(n.pull("workers", `{"max":1,"wait_ms":500}`)) > 0 })
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

// flipLog changes one bit of what a data folder's log has of a packet.
func flipLog(t *testing.T, dir, content string) {
	t.Helper()
	flipped := false
	err := filepath.WalkDir(filepath.Join(dir, "log"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || flipped {
			return err
		}
		data, err := os.ReadFile(path)
		if at := bytes.Index(data, []byte(content)); err == nil && at >= 0 {
			data[at] ^= 4
			flipped, err = true, os.WriteFile(path, data, 0o600)
		}
		return err
	})
	if err != nil || !flipped {
		t.Fatalf("%q is not in the log: %v", content, err)
	}
}

// TestDamagedLogOfOneNode: the only copy of a partition is damaged. The node says
// so, and what its owner can do: without a backup the partition begins anew, and all
// that the others hold is kept.
func TestDamagedLogOfOneNode(t *testing.T) {
	t.Parallel()
	dir, logger := dataDir(t), slog.New(slog.DiscardHandler)
	n := start(t, dir)
	for i := range 16 {
		n.publish(fmt.Sprintf("acme/r%d", i), fmt.Sprintf("this is the content of packet %02d", i))
	}
	n.stop()
	flipLog(t, dir, "content of packet 00")
	n = start(t, dir)
	lost := map[string]bool{}
	for i := range 16 {
		repo := fmt.Sprintf("acme/r%d", i)
		lost[repo] = n.http("GET", "/v1/repos/"+repo+"/packets/1", "", nil) != http.StatusOK
	}
	// Workers get what the other partitions have.
	await(t, "a packet", func() bool { return len(n.pull("early", `{"max":1,"wait_ms":500}`)) > 0 })
	state := n.state("test")
	var partition uint
	if _, err := fmt.Sscanf(state, "quarantined: partition %d; no other copy: see recover", &partition); err != nil || !lost["acme/r0"] {
		t.Errorf("the node is %q, %v: %v", state, lost, err)
	}
	n.stop()
	_, err := backup.Recover([]string{dir}, nil, logger)
	says(t, err, "--empty-partition "+fmt.Sprint(partition), "restore a backup")
	if _, err := backup.Survey([]string{dir}, []uint{99}, logger); !errors.Is(err, backup.ErrNoPartition) {
		t.Errorf("a partition that is not there: %v", err)
	}
	plan, err := backup.Survey([]string{dir}, []uint{partition}, logger)
	if err != nil || !strings.HasPrefix(plan.Groups[partition+1].Lost, "everything") {
		t.Fatalf("the plan: %+v, %v", plan, err)
	}
	if plan, err = backup.Recover([]string{dir}, []uint{partition}, logger); err != nil || !plan.Done {
		t.Fatalf("recover: %+v, %v", plan, err)
	}
	n = start(t, dir)
	if got := n.state("test"); got != "up" {
		t.Errorf("the node is %q", got)
	}
	kept := map[string]bool{}
	for repo, gone := range lost {
		if status := n.http("GET", "/v1/repos/"+repo+"/packets/1", "", nil); (status == http.StatusOK) == gone {
			t.Errorf("%s: packet 1: %d, lost: %v", repo, status, gone)
		}
		if r := n.publish(repo, "x"); number(t, r.Sequence) <= backup.Jump {
			t.Errorf("%s: a new packet has number %s", repo, r.Sequence)
		}
		kept[repo] = !gone
	}
	want, got := 16, 0
	for _, k := range kept {
		if k {
			want++
		}
	}
	await(t, "all that is there", func() bool {
		for _, d := range n.pull("default", `{"max":64,"wait_ms":500}`) {
			if status := d.settle(n, "default", "done", nil); status != http.StatusOK {
				t.Fatalf("settle: %d", status)
			}
			got++
		}
		return got == want
	})
	if wrong := faults(n.verify(), 1); len(wrong) > 0 {
		t.Errorf("replicas: %v", wrong)
	}
}
