package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDraws(t *testing.T) {
	dir := t.TempDir()
	for name, speed := range map[string]string{"0-1.json": "40", "0-100.json": "90", "8-1.json": "30", "8-100.json": "70"} {
		text := `{"scenario":{"name":"backlog","figures":{"large_settled_per_s":` + speed + `}}}`
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := run([]string{dir}, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "<polyline"); n != 2 || !strings.Contains(out.String(), "adaptive") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	if err := run([]string{t.TempDir()}, &out); err == nil {
		t.Error("drew an empty folder")
	}
}
