package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

func (n *node) verify() *waystationv1.VerifyClusterResponse {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*time.Minute)
	defer cancel()
	r, err := n.rpc.VerifyCluster(ctx, &waystationv1.VerifyClusterRequest{LimitMs: 100_000})
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// faults says what is wrong with a comparison's replicas.
func faults(r *waystationv1.VerifyClusterResponse, replicas int) (out []string) {
	for _, g := range r.GetGroups() {
		if g.GetError() != "" || len(g.GetReplicas()) != replicas {
			out = append(out, fmt.Sprintf("meta %v partition %d: %d replicas, %q", g.GetMeta(), g.GetPartition(), len(g.GetReplicas()), g.GetError()))
		}
		for _, x := range g.GetReplicas() {
			if x.GetError() != "" || x.GetDiffers() {
				out = append(out, fmt.Sprintf("meta %v partition %d: %v", g.GetMeta(), g.GetPartition(), x))
			}
		}
	}
	return out
}

// trio starts three nodes and waits until everything is on all of them.
func trio(t *testing.T, dirs [3]string) (nodes [3]*node) {
	t.Helper()
	nodes[0] = start(t, dirs[0])
	nodes[1] = start(t, dirs[1], joining(nodes[0], "second"))
	nodes[2] = start(t, dirs[2], joining(nodes[0], "third"))
	awaitLong(t, "three voters for each partition", func() bool { return replicated(nodes[0].describe(), 3) })
	return nodes
}

func awaitLong(t *testing.T, what string, condition func() bool) {
	t.Helper()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for end := time.Now().Add(90 * time.Second); !condition(); <-pause.C {
		if time.Now().After(end) {
			t.Fatalf("waited 90 s for %s", what)
		}
	}
}

// agree compares the replicas until nothing is wrong with any: one may fail to keep
// up, or have no leader to ask for a moment, but never differ.
func (n *node) agree(t *testing.T, replicas int) (r *waystationv1.VerifyClusterResponse) {
	t.Helper()
	var wrong []string
	defer func() {
		if t.Failed() {
			t.Logf("replicas: %v", wrong)
		}
	}()
	awaitLong(t, "replicas that agree", func() bool {
		r = n.verify()
		for _, g := range r.GetGroups() {
			for _, x := range g.GetReplicas() {
				if x.GetDiffers() || x.GetDamaged() {
					t.Fatalf("meta %v partition %d: %v", g.GetMeta(), g.GetPartition(), x)
				}
			}
		}
		wrong = faults(r, replicas)
		return len(wrong) == 0
	})
	return r
}

const marker = "the bytes that are to be found on the disk, number "

// TestVerifyAgrees: after some work of all kinds the replicas are the same, under
// load too.
func TestVerifyAgrees(t *testing.T) {
	nodes := trio(t, [3]string{dataDir(t), dataDir(t), dataDir(t)})
	for i := range 40 {
		nodes[i%3].publish(fmt.Sprintf("acme/r%d", i%8), fmt.Sprint(marker, i))
	}
	for _, d := range nodes[1].pull("default", `{"max":10,"wait_ms":3000}`) {
		d.settle(nodes[2], "default", "done", nil)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				nodes[0].http("POST", fmt.Sprintf("/v1/repos/acme/r%d/packets", i%8), "more", nil)
			}
		}
	}()
	end := sync.OnceFunc(func() { close(stop); <-ended })
	defer end()
	nodes[1].agree(t, 3)
	end()
	r := nodes[2].agree(t, 3)
	payloads := uint64(0)
	for _, g := range r.GetGroups() {
		payloads += g.GetReplicas()[0].GetPayloads()
	}
	if m := nodes[1].backup(filepath.Join(t.TempDir(), "backup")); len(m.Files) != len(r.GetGroups()) {
		t.Errorf("a backup of %d groups of %d", len(m.Files), len(r.GetGroups()))
	}
	if payloads < 40-10 {
		t.Errorf("only %d payloads were read", payloads)
	}
}

// flip changes one bit of every place in a folder's tables where one of contents
// stands, and returns how many there were.
func flip(t *testing.T, dir string, contents map[string]int) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".log" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for content := range contents {
			middle := []byte(content[len(content)/2:][:64]) // alone in its block
			if i := bytes.Index(data, middle); i >= 0 {
				data[i] ^= 4
				n++
			}
		}
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFlippedBitIsRebuilt: a bit flips on one replica's disk. Verify finds it, the
// replica is given up and made anew from the others, and nobody ever reads it.
func TestFlippedBitIsRebuilt(t *testing.T) {
	dirs := [3]string{dataDir(t), dataDir(t), dataDir(t)}
	nodes := trio(t, dirs)
	const packets = 12
	want := map[string]int{}
	for i := range packets {
		noise := make([]byte, 150<<10) // so that no table is compressed
		_, _ = rand.Read(noise)
		content := string(noise)
		want[content]++
		nodes[0].publish(fmt.Sprintf("acme/r%d", i%4), content)
	}
	awaitLong(t, "everything on all nodes", func() bool { return len(faults(nodes[0].verify(), 3)) == 0 })
	for range 2 { // at its start a node brings into tables what the log had
		nodes[2].stop()
		nodes[2] = start(t, dirs[2], joining(nodes[0], "third"))
	}
	nodes[2].stop()
	if n := flip(t, dirs[2], want); n == 0 {
		t.Fatal("the packets are nowhere on the disk")
	}
	nodes[2] = start(t, dirs[2], joining(nodes[0], "third"))
	for _, n := range nodes {
		intact(t, n, want, packets)
	}
	damaged := 0
	awaitLong(t, "all replicas whole again", func() bool {
		r := nodes[1].verify()
		for _, g := range r.GetGroups() {
			for _, x := range g.GetReplicas() {
				if x.GetDamaged() {
					damaged++
				}
				if x.GetDiffers() || x.GetDamaged() && x.GetNode() != "third" {
					t.Errorf("%v", x)
				}
			}
		}
		return len(faults(r, 3)) == 0 && replicated(nodes[1].describe(), 3)
	})
	ops := fmt.Sprint(nodes[0].describe().GetOperations())
	if damaged == 0 && !strings.Contains(ops, "quarantined") {
		t.Errorf("nobody found the damage: %s", ops)
	}
	for _, n := range nodes {
		intact(t, n, want, packets)
	}
}

// intact reads all packets through a node.
func intact(t *testing.T, n *node, want map[string]int, packets int) {
	t.Helper()
	got := 0
	for i := range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var r *waystationv1.ReadPacketsResponse
		awaitLong(t, "an answer", func() (ok bool) {
			var err error
			r, err = n.rpc.ReadPackets(ctx, &waystationv1.ReadPacketsRequest{RepoId: fmt.Sprintf("acme/r%d", i), From: 1, Limit: 100})
			return err == nil
		})
		for _, p := range r.GetPackets() {
			if want[string(p.GetPacket().GetContent())] == 0 {
				t.Errorf("a wrong byte was served: %.20q", p.GetPacket().GetContent())
			}
			got++
		}
	}
	if got != packets {
		t.Errorf("%d packets of %d were read", got, packets)
	}
}
