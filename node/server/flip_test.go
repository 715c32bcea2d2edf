package server_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// flipState changes one bit of the largest table of a data folder's state, far in
// front of the cluster's own records, which come last.
func flipState(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "state", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	var largest string
	var data []byte
	for _, path := range tables {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(data) {
			largest, data = path, b
		}
	}
	if len(data) < 64<<10 {
		t.Fatalf("the largest of %d tables has %d bytes", len(tables), len(data))
	}
	data[len(data)/3] ^= 16
	if err := os.WriteFile(largest, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedStateBitIsRebuilt: a bit flips in a table of one replica's state,
// which holds records and not payloads. It is found, by a reader or by verify,
// nobody is served anything wrong, and the replica is made anew.
func TestFlippedStateBitIsRebuilt(t *testing.T) {
	t.Parallel()
	const repos, each = 80, 50
	dirs := [3]string{dataDir(t), dataDir(t), dataDir(t)}
	nodes := trio(t, dirs)
	content := func(repo, k int) string { return fmt.Sprintf("packet %d of repository %d", k, repo) }
	for r := range repos {
		var body []string
		for k := range each {
			body = append(body, fmt.Sprintf(`{"repo_id":"acme/r%d","packet_id":"p%d-%d","content":%q}`,
				r, r, k, base64.StdEncoding.EncodeToString([]byte(content(r, k)))))
		}
		packets := `{"packets":[` + strings.Join(body, ",") + `]}`
		awaitLong(t, "receipts", func() bool {
			var answer struct{ Results []struct{ Receipt *receipt } }
			if nodes[0].http("POST", "/v1/packets", packets, &answer, "Content-Type", "application/json") != 200 {
				return false
			}
			for _, x := range answer.Results {
				if x.Receipt == nil {
					return false
				}
			}
			return len(answer.Results) == each
		})
	}
	await(t, "copies", func() bool { return replicated(nodes[0].describe(), 3) })
	nodes[2].stop()
	flipState(t, dirs[2])
	nodes[2] = start(t, dirs[2], joining(nodes[0], "third"))
	whole := func(n *node) {
		for r := range repos {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			var got *waystationv1.ReadPacketsResponse
			awaitLong(t, "an answer", func() (ok bool) {
				var err error
				got, err = n.rpc.ReadPackets(ctx, &waystationv1.ReadPacketsRequest{RepoId: fmt.Sprintf("acme/r%d", r), From: 1, Limit: 100})
				return err == nil
			})
			cancel()
			if len(got.GetPackets()) != each {
				t.Fatalf("%s: repository %d has %d packets", n.Name, r, len(got.GetPackets()))
			}
			for k, p := range got.GetPackets() {
				if string(p.GetPacket().GetContent()) != content(r, k) {
					t.Fatalf("%s: repository %d: packet %d is %q", n.Name, r, k, p.GetPacket().GetContent())
				}
			}
		}
	}
	whole(nodes[2])
	awaitLong(t, "all replicas whole again", func() bool {
		for _, g := range nodes[1].verify().GetGroups() {
			for _, x := range g.GetReplicas() {
				if x.GetDiffers() || x.GetDamaged() && x.GetNode() != "third" {
					t.Errorf("%v", x)
				}
			}
		}
		return strings.Contains(fmt.Sprint(nodes[0].describe().GetOperations()), "quarantined") &&
			replicated(nodes[1].describe(), 3) && len(faults(nodes[1].verify(), 3)) == 0
	})
	for _, n := range nodes {
		whole(n)
	}
}
