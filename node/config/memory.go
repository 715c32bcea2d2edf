package config

import (
	"bufio"
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// unknownMachine is taken where neither a limit nor the machine's memory is known.
const unknownMachine = 2 * GiB

// largest bounds what a node without any limit plans with: beyond it caches
// bring nothing that the file system's own would not.
const largest = 4 * GiB

// Memory is how much memory the node may plan with: --memory-limit, else
// GOMEMLIMIT, else nine tenths of the cgroup's limit, else a quarter of the
// machine. bound says whether it is somebody's limit, or only a plan.
func (c *Config) Memory(getenv func(string) (string, bool)) (plan Bytes, bound bool) {
	if c.MemoryLimit > 0 {
		return c.MemoryLimit, true
	}
	// The runtime has read the variable already; asking it would also find what an
	// earlier node in this process has set.
	if text, ok := getenv("GOMEMLIMIT"); ok {
		if n, err := ParseBytes(text); err == nil && n > 0 { // "off" is none
			return n, true
		}
	}
	if n, ok := cgroupLimit("/"); ok {
		return min(n/10*9, largest), true
	}
	if n, ok := machineMemory("/proc/meminfo"); ok {
		return min(max(n/4, 256*MiB), largest), false
	}
	return unknownMachine, false
}

// cgroupLimit reads the limit of the cgroup that this process is in: version 2,
// else version 1. root is "/" outside of tests.
func cgroupLimit(root string) (Bytes, bool) {
	for _, path := range cgroupFiles(root) {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		// Version 1 says "no limit" with a number near 2⁶³, version 2 with "max".
		if err == nil && n > 0 && n < 1<<60 {
			return Bytes(n), true
		}
	}
	return 0, false
}

func cgroupFiles(root string) []string {
	base := strings.TrimSuffix(root, "/") + "/sys/fs/cgroup"
	var files []string
	if data, err := os.ReadFile(strings.TrimSuffix(root, "/") + "/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(data)) {
			// hierarchy:controllers:path, with no controllers in version 2
			part := strings.SplitN(strings.TrimSpace(line), ":", 3)
			switch {
			case len(part) < 3 || part[2] == "/":
			case part[0] == "0" && part[1] == "":
				files = append(files, base+part[2]+"/memory.max")
			case slices.Contains(strings.Split(part[1], ","), "memory"):
				files = append(files, base+"/memory"+part[2]+"/memory.limit_in_bytes")
			}
		}
	}
	return append(files, base+"/memory.max", base+"/memory/memory.limit_in_bytes")
}

func machineMemory(path string) (Bytes, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return Bytes(n) * KiB, err == nil
		}
	}
	return 0, false
}
