package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeadFiles: dead letters leave with all they are made of, and come back as
// packets once, however often their file is imported.
func TestDeadFiles(t *testing.T) {
	startNode(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(childOutput, filepath.Join(t.TempDir(), "seen"))
	for _, content := range []string{"exit 65", "good", "exit 65 again"} {
		r := cli(t, content, "send", "--repo", "acme/api", "--id", content, "--priority", "high", "--kind", "diff", "--meta", "branch=main", "--encoding", "gzip")
		if r.code != 0 {
			t.Fatalf("send: %+v", r)
		}
	}
	if r := cli(t, "", "work", "--group", "ci", "--exit-when-empty", "--", exe); r.code != 0 {
		t.Fatalf("work: %+v", r)
	}
	path := filepath.Join(t.TempDir(), "dead.jsonl")
	if r := cli(t, "", "dead", "export", "--group", "ci", path); r.code != 0 || !strings.Contains(r.err, "exported: 2") {
		t.Fatalf("export: %+v", r)
	}
	if r := cli(t, "", "dead", "export", "--group", "ci", path); r.code != 1 || !strings.Contains(r.err, "exists") {
		t.Errorf("over a file: %+v", r)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r := cli(t, "", "dead", "export", "--group", "ci"); r.out != string(text) {
		t.Errorf("to standard output: %+v, want %s", r, text)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	var line deadLine
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatal(err)
	}
	if string(line.Content) != "exit 65" || line.PacketID != "exit 65" || line.Priority != "high" || line.Kind != "diff" || line.Metadata["branch"] != "main" ||
		line.ContentEncoding != "gzip" || line.Reason != "rejected" || line.Attempts != 1 || len(line.Failures) != 1 || !strings.Contains(line.Failures[0].Error, "because it says so") {
		t.Errorf("line: %s", first)
	}
	if r := cli(t, "", "dead", "discard", "--group", "ci", "--all"); r.code != 0 {
		t.Fatalf("discard: %+v", r)
	}
	if r := cli(t, "", "dead", "import", path); r.code != 0 || len(r.lines()) != 2 || strings.Contains(r.out, "duplicate") {
		t.Errorf("import: %+v", r)
	}
	if r := cli(t, string(text), "dead", "import", "-"); r.code != 0 || strings.Count(r.out, " duplicate") != 2 {
		t.Errorf("import once more: %+v", r)
	}
	if r := cli(t, string(text), "dead", "import", "--same-ids", "-"); r.code != 0 || strings.Count(r.out, "acme/api 1 exit 65 duplicate") != 1 {
		t.Errorf("under the same ids: %+v", r)
	}
	if r := cli(t, "", "tail", "acme/api"); !strings.Contains(r.out, "HIGH") || !strings.Contains(r.out, "dead/") {
		t.Errorf("what came back: %+v", r)
	}
	for name, x := range map[string]struct{ text, want string }{
		"no JSON":       {"x", "line 1"},
		"from where":    {`{"repo_id":"r","content":""}`, "--same-ids"},
		"a priority":    {`{"repo_id":"r","content":"","cluster_id":"c","group":"g","sequence":"3","priority":"urgent"}`, "priority"},
		"no content":    {`{"repo_id":"r","content":7}`, "line 1"},
		"no repository": {`{"content":"","cluster_id":"c","group":"g","sequence":"3"}`, "repo_id"},
	} {
		if r := cli(t, x.text, "dead", "import", "-"); r.code != 1 || !strings.Contains(r.err, x.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := cli(t, "", "dead", "import"); r.code != 2 {
		t.Errorf("no file: %+v", r)
	}
	if r := cli(t, "", "dead", "export"); r.code != 2 || !strings.Contains(r.err, "--group") {
		t.Errorf("no group: %+v", r)
	}
}
