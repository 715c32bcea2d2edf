package fleet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// userHertz is the unit of times in /proc, the same on every architecture that Go runs on.
const userHertz = 100

func read(pid int) (sample, bool) {
	status, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	stat, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err1 != nil || err2 != nil {
		return sample{}, false
	}
	rss, ok1 := parseField(string(status), "VmHWM:")
	cpu, ok2 := parseCPU(string(stat))
	s := sample{rss: rss << 10, cpu: cpu, disk: -1}
	// Not readable everywhere, e.g. for another user's process.
	if io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid)); err == nil {
		if written, ok := parseField(string(io), "write_bytes:"); ok {
			s.disk = written
		}
	}
	return s, ok1 && ok2
}

// parseField returns the number after a name at the start of a line.
func parseField(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		return n, err == nil
	}
	return 0, false
}

// parseCPU returns user and system time of /proc/pid/stat. The second field is
// the program's name in parentheses, in which anything may stand.
func parseCPU(stat string) (time.Duration, bool) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const user, system = 11, 12 // after the name
	if len(fields) <= system {
		return 0, false
	}
	u, err1 := strconv.ParseInt(fields[user], 10, 64)
	s, err2 := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(u+s) * time.Second / userHertz, err1 == nil && err2 == nil
}
