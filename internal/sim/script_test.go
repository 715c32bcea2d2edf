package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// A script is a run's settings and its ops, a line each. testdata has the shortest
// ones of runs that failed once.

func (s settings) lines() (out []string) {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		out = append(out, fmt.Sprintf("set %s %v", v.Type().Field(i).Name, v.Field(i)))
	}
	return out
}

func (s *settings) parse(line string) error {
	f := strings.Fields(line)
	if len(f) != 3 {
		return fmt.Errorf("parse setting %q: %d fields", line, len(f))
	}
	field := reflect.ValueOf(s).Elem().FieldByName(f[1])
	n, err := strconv.ParseUint(f[2], 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("parse setting %q: %w", line, err)
	case !field.IsValid():
		return fmt.Errorf("parse setting %q: unknown", line)
	case field.CanUint():
		field.SetUint(n)
	default:
		field.SetInt(int64(n))
	}
	return nil
}

func (h *history) text() string {
	var b strings.Builder
	for _, line := range strings.Split(h.err.Error(), "\n")[:1] {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	for _, line := range h.set.lines() {
		fmt.Fprintln(&b, line)
	}
	for _, o := range h.ops {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

func parseScript(text string) (h history, err error) {
	for _, line := range strings.Split(text, "\n") {
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "set "):
			err = h.set.parse(line)
		default:
			var o op
			o, err = parseOp(line)
			h.ops = append(h.ops, o)
		}
		if err != nil {
			return h, err
		}
	}
	return h, nil
}

// TestScripts runs what once failed.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.script")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			h, err := parseScript(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if h = replay(t, h.set, h.ops); h.err != nil {
				t.Error(h.err)
			}
		})
	}
}

// shrink makes a failing history shorter, as long as it fails: it leaves out
// chunks of its ops, large ones first (ddmin), within a number of tries.
func shrink(t *testing.T, h history, tries int) history {
	if at := strings.Index(h.err.Error(), ":"); at < 0 {
		return h
	}
	heal := h.steps > len(h.ops) // else it failed before
	for n := 2; n <= 2*len(h.ops) && tries > 0; {
		size := max(1, (len(h.ops)+n-1)/n)
		cut := false
		for from := 0; from < len(h.ops) && tries > 0; {
			to := min(from+size, len(h.ops))
			ops := append(append([]op(nil), h.ops[:from]...), h.ops[to:]...)
			tries--
			if x := rerun(t, h.set, ops, heal); x.err != nil && alike(x.err, h.err) {
				x.ops = x.ops[:min(len(x.ops), x.steps)]
				h, cut = x, true
				continue
			}
			from = to
		}
		switch {
		case cut && size > 1:
			n = max(n-1, 2)
		case size == 1 && !cut:
			return h
		default:
			n *= 2
		}
	}
	return h
}

// alike says whether two runs failed in the same way, about: a shorter script that
// breaks something else is another find.
func alike(a, b error) bool { return shape(a) == shape(b) }

// shape is an error's text without what differs from run to run.
func shape(err error) string {
	text := strings.Split(err.Error(), "\n")[0]
	if strings.HasPrefix(text, "event") {
		_, text, _ = strings.Cut(text, "): ")
	}
	var b strings.Builder
	for _, c := range text {
		if c < '0' || c > '9' {
			b.WriteRune(c)
		}
	}
	return b.String()[:min(b.Len(), 60)]
}

// save writes the shortest script that fails as h does, and returns its path.
func save(t *testing.T, h history) string {
	short := shrink(t, h, 3000)
	path := filepath.Join("testdata", fmt.Sprintf("seed-%d.script", h.set.Seed))
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(short.text()), 0o644); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%s (%d ops of %d): %v", path, len(short.ops), len(h.ops), short.err)
}

func TestScriptIsReadAsItWasWritten(t *testing.T) {
	h := history{set: newSettings(7), err: os.ErrInvalid, ops: []op{{kind: opCrash, a: 1, b: 2, c: 3, n: 1 << 63}, {kind: opTick, a: 3}}}
	got, err := parseScript(h.text())
	if err != nil || got.set != h.set || !reflect.DeepEqual(got.ops, h.ops) {
		t.Errorf("%+v, %v", got, err)
	}
}
