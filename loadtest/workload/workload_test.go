package workload

import (
	"bytes"
	"compress/flate"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMarkInContent(t *testing.T) {
	m := Mark{Run: 0xdeadbeef, Repo: 999, Index: 1 << 31}
	for _, size := range []int{MarkSize, MarkSize + 1, 1024} {
		content := bytes.Repeat([]byte{7}, size)
		m.Stamp(content)
		if got, ok := Stamped(content); !ok || got != m {
			t.Fatalf("size %d: got %v, %v", size, got, ok)
		}
		for i := range content {
			content[i] ^= 1
			if _, ok := Stamped(content); ok {
				t.Fatalf("size %d: byte %d flipped and not noticed", size, i)
			}
			content[i] ^= 1
		}
	}
	if _, ok := Stamped(make([]byte, MarkSize-1)); ok {
		t.Error("a short content has a mark")
	}
}

func TestMarkInMetadata(t *testing.T) {
	m := Mark{Run: 0xdeadbeef, Repo: 0, Index: 77}
	for _, content := range [][]byte{nil, []byte("package main\n")} {
		text := m.Text(content)
		if got, ok := ParseMark(text, content); !ok || got != m {
			t.Fatalf("%q: got %v, %v", text, got, ok)
		}
		if _, ok := ParseMark(text, append(slices.Clone(content), 'x')); ok {
			t.Errorf("%q: other content not noticed", text)
		}
	}
	for _, text := range []string{"", "1.2.3", "1.2.3.4.5", "1.2.3.x", "1..3.4", "100000000.2.3.4"} {
		if _, ok := ParseMark(text, nil); ok {
			t.Errorf("%q is taken for a mark", text)
		}
	}
}

func TestRepoOf(t *testing.T) {
	for path, want := range map[string]string{
		"main.go":                    "src",
		"fmt/print.go":               "fmt",
		"net/http/server.go":         "net/http",
		"cmd/compile/internal/a.go":  "cmd/compile",
		"cmd/compile/internal/b/c.s": "cmd/compile",
	} {
		if got := RepoOf(path, "src"); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSource(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	files := map[string]string{
		"go.mod": "module x", "a/1.go": "one", "a/2.go": "", "a/b/3.go": "three", "a/b/c/4.go": "four",
	}
	write(t, dir, files)
	take := func(seed uint64, n int) (paths []string) {
		s, err := OpenSource(dir, seed)
		if err != nil {
			t.Fatal(err)
		}
		if s.Files != 5 || s.Skipped != 0 || s.Bytes != 20 {
			t.Fatalf("files %d, skipped %d, bytes %d", s.Files, s.Skipped, s.Bytes)
		}
		for range n {
			item, err := s.Next(nil)
			if err != nil {
				t.Fatal(err)
			}
			if string(item.Content) != files[item.Path] || item.Own {
				t.Fatalf("%s: content %q", item.Path, item.Content)
			}
			if got, want := s.Repos()[item.Repo], RepoOf(item.Path, "tree"); got != want {
				t.Fatalf("%s: repository %s, want %s", item.Path, got, want)
			}
			paths = append(paths, item.Path)
		}
		return paths
	}
	got := take(1, 15)
	if !slices.Equal(got, take(1, 15)) {
		t.Error("one seed gave two orders")
	}
	for pass := range 3 {
		sorted := slices.Clone(got[5*pass : 5*pass+5])
		if slices.Index(sorted, "a/1.go") > slices.Index(sorted, "a/2.go") ||
			slices.Index(sorted, "a/b/3.go") > slices.Index(sorted, "a/b/c/4.go") {
			t.Errorf("pass %d breaks a repository's order: %v", pass, sorted)
		}
		slices.Sort(sorted)
		if want := []string{"a/1.go", "a/2.go", "a/b/3.go", "a/b/c/4.go", "go.mod"}; !slices.Equal(sorted, want) {
			t.Errorf("pass %d has %v", pass, sorted)
		}
	}
}

func TestSourceThroughLink(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"real/x.go": "x"})
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "real"), link); err != nil {
		t.Logf("no links here: %v", err)
		link = filepath.Join(dir, "real")
	}
	if s, err := OpenSource(link, 1); err != nil || s.Files != 1 {
		t.Fatalf("got %+v, %v", s, err)
	}
}

func TestSourceErrors(t *testing.T) {
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "none")} {
		if _, err := OpenSource(dir, 1); err == nil {
			t.Errorf("%s: opened", dir)
		}
	}
}

func TestSourceReadsWhatItDoesNotKeep(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"x.go": "x"})
	s, err := OpenSource(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.files[0][0].content = nil
	if item, err := s.Next(nil); err != nil || string(item.Content) != "x" {
		t.Fatalf("got %q, %v", item.Content, err)
	}
	if err := os.Remove(filepath.Join(dir, "x.go")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(nil); err == nil {
		t.Fatal("read a file that is gone")
	}
}

func TestSynthetic(t *testing.T) {
	a, b := NewSynthetic(10, 1024, 0, 7), NewSynthetic(10, 1024, 0, 7)
	var all []byte
	for range 64 {
		x, _ := a.Next(nil)
		y, _ := b.Next(nil)
		if x.Repo != y.Repo || !bytes.Equal(x.Content, y.Content) || len(x.Content) != 1024 || !x.Own {
			t.Fatal("one seed gave two streams, or not what was asked for")
		}
		all = append(all, x.Content...)
	}
	if again, _ := a.Next(all[:1024]); &again.Content[0] != &all[0] {
		t.Error("a buffer was not used again")
	}
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression)
	_, _ = w.Write(all)
	_ = w.Close()
	if packed.Len() < len(all)*95/100 {
		t.Errorf("%d bytes compress to %d", len(all), packed.Len())
	}
	if x, _ := NewSynthetic(1, MarkSize-1, 0, 7).Next(nil); x.Own {
		t.Error("a mark has no room, yet it is said to")
	}
}

func TestSkew(t *testing.T) {
	const draws, repos = 200_000, 50
	for _, skew := range []float64{0, 0.5, 1, 2} {
		s := NewSynthetic(repos, 0, skew, 3)
		var got [repos]float64
		for range draws {
			item, _ := s.Next(nil)
			got[item.Repo]++
		}
		total := 0.0
		for i := range repos {
			total += math.Pow(float64(i+1), -skew)
		}
		for i := range repos {
			want := draws * math.Pow(float64(i+1), -skew) / total
			// Six standard deviations: the seed is fixed, so this cannot flicker.
			if math.Abs(got[i]-want) > 6*math.Sqrt(want)+1 {
				t.Errorf("skew %v, repository %d: drawn %v times, want about %.0f", skew, i, got[i], want)
			}
		}
	}
}

func BenchmarkSynthetic(b *testing.B) {
	s := NewSynthetic(1000, 1024, 0, 1)
	first, _ := s.Next(nil)
	buf := first.Content
	b.ReportAllocs()
	for i := range b.N {
		item, _ := s.Next(buf)
		Mark{Run: 1, Repo: uint32(item.Repo), Index: uint32(i)}.Stamp(item.Content)
	}
}

func BenchmarkStamped(b *testing.B) {
	content := make([]byte, 1024)
	Mark{}.Stamp(content)
	b.ReportAllocs()
	for range b.N {
		if _, ok := Stamped(content); !ok {
			b.Fatal("not recognised")
		}
	}
}
