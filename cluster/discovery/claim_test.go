package discovery

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClaim(t *testing.T) {
	h, err := OpenHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if h.Serves("127.0.0.1:7400") {
		t.Error("claimed by nobody")
	}
	c, err := h.Claim([]string{"127.0.0.1:7400", "127.0.0.1:7401"})
	if err != nil {
		t.Fatal(err)
	}
	if !h.Serves("127.0.0.1:7400") || !h.Serves("localhost:7401") || h.Serves("127.0.0.1:7402") {
		t.Error("what is claimed is not what is served")
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if h.Serves("127.0.0.1:7400") {
		t.Error("claimed after Close")
	}
}

// TestClaimOfTheDead: a claim ends with its process, however that ends.
func TestClaimOfTheDead(t *testing.T) {
	h, err := OpenHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Claim([]string{"127.0.0.1:7400"}); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(h.claims(), "*"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	b, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	dead := strings.Replace(string(b), `"pid":`, `"pid":-`, 1)
	if err := os.WriteFile(paths[0], []byte(dead), 0o600); err != nil {
		t.Fatal(err)
	}
	if h.Serves("127.0.0.1:7400") {
		t.Error("claimed by a process that is gone")
	}
	if _, err := os.Stat(paths[0]); !os.IsNotExist(err) {
		t.Errorf("the claim is still there: %v", err)
	}
}
