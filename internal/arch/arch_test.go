package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/waystation/waystation"

// table says which of our packages each part may import, by path prefix below the
// module. docs/ARCHITECTURE.md shows the same table with its reasons.
var table = map[string][]string{
	"messages":           {"messages"},
	"storage":            {"storage", "messages", "internal/invariant"},
	"actors":             {"actors", "storage", "messages", "internal/cadence", "internal/invariant"},
	"cluster":            {"cluster", "storage", "messages", "internal/invariant"},
	"client":             {"client", "messages"},
	"node":               {"node", "actors", "cluster", "storage", "client", "messages", "internal/cadence", "internal/invariant"},
	"loadtest":           {"loadtest", "client", "messages", "internal/freeport"},
	"internal/sim":       {"internal/sim", "actors", "cluster", "storage", "messages", "internal/invariant"},
	"internal/cadence":   {},
	"internal/invariant": {},
	"internal/freeport":  {},
	"internal/leak":      {},
	"internal/written":   {},
	"internal/arch":      {},
	"internal/crash":     {},
	"internal/planted":   {},
	"internal/docs":      {},
}

// exceptions are single files with one more import, each with its reason.
var exceptions = map[string]string{
	"loadtest/node.go": "node/", // the tool runs itself again as a node, so that a kill is a real kill
}

// outside libraries are known to the named parts alone.
var libraries = map[string][]string{
	"google.golang.org/grpc":              {"messages", "client", "node", "cluster/transport", "loadtest"},
	"github.com/cockroachdb/pebble":       {"storage"},
	"go.etcd.io/raft":                     {"cluster"},
	"github.com/hashicorp/memberlist":     {"cluster/gossip"},
	"github.com/asynkron/protoactor-go":   {"actors"},
	"github.com/prometheus/client_golang": {"storage", "actors", "cluster", "node"},
	"github.com/klauspost/compress":       {"actors"},
	"github.com/HdrHistogram":             {"loadtest"},
	"github.com/anishathalye/porcupine":   {"loadtest"},
}

// cores are deterministic: no goroutine, clock, randomness, lock or IO.
var cores = []string{"actors/repository", "actors/intake", "actors/lease", "cluster/replica", "cluster/placement", "cluster/mover", "cluster/discovery/expect"}

// impure imports, and why a core must not have them.
var impure = map[string]string{
	"sync": "lock", "sync/atomic": "lock", "math/rand": "randomness", "math/rand/v2": "randomness",
	"crypto/rand": "randomness", "os": "IO", "net": "IO", "net/http": "IO", "io/ioutil": "IO", "log": "IO",
	"log/slog": "IO", "context": "clock", "os/exec": "IO", "syscall": "IO",
}

// impureCalls of package time; its types and constants are fine.
var impureCalls = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

type file struct {
	path string // below the module
	ast  *ast.File
	fset *token.FileSet
}

// sources parses every Go file of the module that is not a test.
func sources(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || rel == "internal/tools" || rel == "loadtest/compare" || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, file{rel, f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d files found: is this the module?", len(out))
	}
	return out
}

func under(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

func owner(path string) string {
	best := ""
	for part := range table {
		if under(path, part) && len(part) > len(best) {
			best = part
		}
	}
	return best
}

func imports(f file) (out []string) {
	for _, i := range f.ast.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func TestImportsPointOneWay(t *testing.T) {
	seen := 0
	for _, f := range sources(t) {
		part := owner(f.path)
		if part == "" {
			t.Errorf("%s belongs to no part of the table", f.path)
			continue
		}
		for _, imp := range imports(f) {
			rel, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			seen++
			if more, ok := exceptions[f.path]; ok && strings.HasPrefix(rel, more) {
				continue
			}
			if !slices.ContainsFunc(table[part], func(p string) bool { return under(rel, p) }) {
				t.Errorf("%s imports %s: %s may import %v only", f.path, rel, part, table[part])
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d imports seen", seen)
	}
}

func TestLibrariesStayWhereTheyBelong(t *testing.T) {
	for _, f := range sources(t) {
		for _, imp := range imports(f) {
			for lib, parts := range libraries {
				if strings.HasPrefix(imp, lib) && !slices.ContainsFunc(parts, func(p string) bool { return under(f.path, p) }) {
					t.Errorf("%s imports %s: that is for %v", f.path, imp, parts)
				}
			}
			if strings.HasPrefix(imp, "github.com/asynkron/protoactor-go/remote") || strings.HasPrefix(imp, "github.com/asynkron/protoactor-go/cluster") {
				t.Errorf("%s imports %s: ADR 0003 says why not", f.path, imp)
			}
		}
	}
}

func TestCoresAreDeterministic(t *testing.T) {
	checked := map[string]int{}
	for _, f := range sources(t) {
		i := slices.IndexFunc(cores, func(c string) bool { return under(f.path, c) })
		if i < 0 {
			continue
		}
		checked[cores[i]]++
		for _, imp := range imports(f) {
			if why, bad := impure[imp]; bad {
				t.Errorf("%s imports %s (%s): a core takes it as an argument", f.path, imp, why)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: goroutine in a core", f.fset.Position(x.Pos()))
			case *ast.SelectorExpr:
				if id, ok := x.X.(*ast.Ident); ok && id.Name == "time" && slices.Contains(impureCalls, x.Sel.Name) {
					t.Errorf("%s: time.%s in a core", f.fset.Position(x.Pos()), x.Sel.Name)
				}
			}
			return true
		})
	}
	for _, c := range []string{"actors/repository", "actors/intake", "cluster/replica", "cluster/placement", "cluster/mover", "cluster/discovery/expect"} {
		if checked[c] == 0 {
			t.Errorf("no file of %s was checked", c)
		}
	}
}
