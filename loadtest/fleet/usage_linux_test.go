package fleet

import (
	"os"
	"testing"
	"time"
)

func TestParseCPU(t *testing.T) {
	const rest = " S 1 2 3 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 12 0 100 200 300\n"
	for _, name := range []string{"(loadtest)", "(a ) S 9 (b)"} {
		if got, ok := parseCPU("42 " + name + rest); !ok || got != 3*time.Second {
			t.Errorf("%s: got %v, %v", name, got, ok)
		}
	}
	for _, bad := range []string{"", "42 (x) S 1 2", "42 (x) S 1 2 3 0 -1 4194560 100 0 0 0 x y"} {
		if got, ok := parseCPU(bad); ok {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

func TestParseField(t *testing.T) {
	const text = "Name:\tx\nVmHWM:\t  1234 kB\nwrite_bytes: 77\nVmEmpty:\n"
	for name, want := range map[string]int64{"VmHWM:": 1234, "write_bytes:": 77} {
		if got, ok := parseField(text, name); !ok || got != want {
			t.Errorf("%s: got %d, %v", name, got, ok)
		}
	}
	for _, name := range []string{"VmRSS:", "VmEmpty:", "Name:"} {
		if got, ok := parseField(text, name); ok {
			t.Errorf("%s: got %d", name, got)
		}
	}
}

func TestReadOwnProcess(t *testing.T) {
	s, ok := read(os.Getpid())
	if !ok || s.rss < 1<<20 {
		t.Errorf("got %+v, %v", s, ok)
	}
	if _, ok := read(1 << 30); ok {
		t.Error("a process that does not exist was read")
	}
}
