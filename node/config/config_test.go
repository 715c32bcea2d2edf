package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// env answers like os.LookupEnv, from pairs.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "waystation.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreTheContract(t *testing.T) {
	c, err := Load(nil, env())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	for _, x := range []struct {
		name      string
		got, want any
	}{
		{"listen", c.Listen, "127.0.0.1:7400"},
		{"http", c.HTTP, "127.0.0.1:7401"},
		{"gossip", c.Gossip, "127.0.0.1:7402"},
		{"peer", c.Peer, "127.0.0.1:7403"},
		{"data-dir", c.DataDir, "./waystation-data"},
		{"partitions", c.Partitions, 16},
		{"content", c.Limits.ContentBytes, 8 * MiB},
		{"frame", c.Limits.FrameBytes, 4 * MiB},
		{"frame packets", c.Limits.FramePackets, 1024},
		{"repo id", c.Limits.RepoIDBytes, 512},
		{"metadata pairs", c.Limits.MetadataPairs, 64},
		{"metadata bytes", c.Limits.MetadataBytes, 16 * KiB},
		{"mailbox packets", c.Limits.MailboxPackets, 1024},
		{"mailbox bytes", c.Limits.MailboxBytes, 8 * MiB},
		{"dedup window", c.Seed.DedupWindow, time.Hour},
		{"retention", c.Seed.Retention, 7 * 24 * time.Hour},
		{"retention bytes", c.Seed.RetentionBytes, Bytes(0)},
		{"backlog packets", c.Seed.BacklogPackets, int64(1_000_000)},
		{"backlog bytes", c.Seed.BacklogBytes, GiB},
		{"max attempts", c.Seed.MaxAttempts, 5},
		{"back-off base", c.Seed.BackoffBase, time.Second},
		{"back-off max", c.Seed.BackoffMax, 5 * time.Minute},
		{"lease", c.Seed.Lease, 30 * time.Second},
		{"batch", c.Seed.MaxBatch, 32},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("%s: got %v, want %v", x.name, x.got, x.want)
		}
	}
	if c.Name == "" {
		t.Error("the node has no name")
	}
}

// TestEverySettingHasAFlag keeps a field from being added without one.
func TestEverySettingHasAFlag(t *testing.T) {
	c := Default()
	flags := newSet()
	for _, g := range c.Groups() {
		flags.AddFlagSet(g.Flags)
	}
	fields := 0
	var count func(reflect.Type)
	count = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			switch {
			case !f.IsExported():
			case f.Type.Kind() == reflect.Struct:
				count(f.Type)
			default:
				fields++
			}
		}
	}
	count(reflect.TypeFor[Config]())
	n := 0
	flags.VisitAll(func(f *pflag.Flag) {
		n++
		if f.Usage == "" {
			t.Errorf("--%s has no usage", f.Name)
		}
		if !strings.Contains(Usage(), "--"+f.Name) {
			t.Errorf("--%s is not in the usage text", f.Name)
		}
	})
	if n != fields {
		t.Errorf("%d flags for %d settings", n, fields)
	}
}

func TestFlagOverVariableOverFileOverDefault(t *testing.T) {
	file := write(t, "http: 127.0.0.1:1\nlisten: 127.0.0.1:2\nmax_content_bytes: 1MiB\nretention: 48h\n")
	c, err := Load([]string{"--config", file, "--http", "127.0.0.1:9"},
		env("WAYSTATION_HTTP", "127.0.0.1:8", "WAYSTATION_LISTEN", "127.0.0.1:7", "WAYSTATION_NAME", ""))
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP != "127.0.0.1:9" || c.Listen != "127.0.0.1:7" || c.Limits.ContentBytes != MiB ||
		c.Seed.Retention != 48*time.Hour || c.Gossip != "127.0.0.1:7402" {
		t.Errorf("got http %s, listen %s, content %v, retention %v, gossip %s", c.HTTP, c.Listen, c.Limits.ContentBytes, c.Seed.Retention, c.Gossip)
	}
	if c, err = Load(nil, env("WAYSTATION_CONFIG", file)); err != nil || c.HTTP != "127.0.0.1:1" {
		t.Errorf("file named by a variable: http %s, %v", c.HTTP, err)
	}
}

func TestLoadNamesWhereAFaultIs(t *testing.T) {
	file := write(t, "http: 127.0.0.1:1\nnonsense: 1\nlease: soon\nmax-attempts: [1]\nconfig: other\n")
	_, err := Load([]string{"--config", file}, env("WAYSTATION_PARTITIONS", "many"))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		file + ":2", `"nonsense"`, file + ":3: --lease", file + ":4", file + ":5", "WAYSTATION_PARTITIONS: --partitions",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	for name, args := range map[string][]string{
		"no such file": {"--config", filepath.Join(t.TempDir(), "absent")},
		"a list":       {"--config", write(t, "- a\n")},
		"broken":       {"--config", write(t, "a: [\n")},
		"unknown flag": {"--nope"},
		"argument":     {"extra"},
	} {
		if _, err := Load(args, env()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Load([]string{"--help"}, env()); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
	if _, err := Load([]string{"--config", write(t, "")}, env()); err != nil {
		t.Errorf("empty file: %v", err)
	}
}

func TestValidateJoinsAllFaults(t *testing.T) {
	for _, x := range []struct {
		flag string
		want string // beside the flag
		set  func(*Config)
	}{
		{"listen", "want host:port", func(c *Config) { c.Listen = "7400" }},
		{"http", "0 to 65535", func(c *Config) { c.HTTP = "127.0.0.1:70000" }},
		{"http", "--listen too", func(c *Config) { c.HTTP = c.Listen }},
		{"listen", "--insecure", func(c *Config) { c.Listen = "0.0.0.0:7400" }},
		{"http", "--insecure", func(c *Config) { c.HTTP = ":7401" }},
		{"http", "--insecure", func(c *Config) { c.HTTP = "example.com:7401" }},
		{"gossip", "--gossip-key-file", func(c *Config) { c.Gossip, c.Insecure = "0.0.0.0:7402", true }},
		{"peer", "--peer-cert", func(c *Config) { c.Peer = "10.0.0.1:7403" }},
		{"peer-cert", "all three", func(c *Config) { c.PeerKey = "key.pem" }},
		{"data-dir", "name a folder", func(c *Config) { c.DataDir = "" }},
		{"name", "printable", func(c *Config) { c.Name = "a\nb" }},
		{"cluster-name", "1 to 64", func(c *Config) { c.ClusterName = "" }},
		{"join", "gossip addresses", func(c *Config) { c.Join = "10.0.0.1" }},
		{"join", "is empty", func(c *Config) { c.Join = "" }},
		{"replication", "1, 3 or 5", func(c *Config) { c.Replication = 2 }},
		{"bootstrap-expect", "--join", func(c *Config) { c.BootstrapExpect = 3 }},
		{"bootstrap-expect", "1 to 9", func(c *Config) { c.BootstrapExpect, c.Join = 10, "a:1" }},
		{"advertise", "without a port", func(c *Config) { c.Advertise = "10.0.0.7:7403" }},
		{"advertise", "no address that others", func(c *Config) { c.Advertise = "0.0.0.0" }},
		{"zone", "printable", func(c *Config) { c.Zone = "a\n" }},
		{"replace-after", "10s", func(c *Config) { c.ReplaceAfter = time.Second }},
		{"partitions", "1 to 1024", func(c *Config) { c.Partitions = 0 }},
		{"log-level", "debug", func(c *Config) { c.LogLevel = "loud" }},
		{"log-format", "json", func(c *Config) { c.LogFormat = "xml" }},
		{"memory-limit", "128MiB", func(c *Config) { c.MemoryLimit = MiB }},
		{"max-content-bytes", "8MiB", func(c *Config) { c.Limits.ContentBytes = 9 * MiB }},
		{"max-frame-packets", "1024", func(c *Config) { c.Limits.FramePackets = 5000 }},
		{"intake-bytes", "1MiB", func(c *Config) { c.Limits.IntakeBytes = 1 }},
		{"lease", "1s", func(c *Config) { c.Seed.Lease = time.Millisecond }},
		{"backoff-max", "1s", func(c *Config) { c.Seed.BackoffMax = time.Millisecond }},
		{"retention-bytes", "64MiB", func(c *Config) { c.Seed.RetentionBytes = 1 }},
		{"dedup-window", "1m0s", func(c *Config) { c.Seed.DedupWindow = 0 }},
		{"max-attempts", "1 to 1000", func(c *Config) { c.Seed.MaxAttempts = 0 }},
	} {
		c := Default()
		c.Name = "n"
		x.set(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), "--"+x.flag+": ") || !strings.Contains(err.Error(), x.want) {
			t.Errorf("--%s: want %q, got: %v", x.flag, x.want, err)
		}
	}
	c := Default()
	c.Name, c.DataDir, c.Join, c.Seed.MaxBatch = "n", "", "x", -1
	if err := c.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three faults: %v", err)
	}
}

func TestHarmlessSettingsAreAccepted(t *testing.T) {
	for name, set := range map[string]func(*Config){
		"port 0 everywhere": func(c *Config) {
			c.Listen, c.HTTP, c.Gossip, c.Peer = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		},
		"insecure":       func(c *Config) { c.Listen, c.HTTP, c.Insecure = "0.0.0.0:7400", ":7401", true },
		"other loopback": func(c *Config) { c.Listen, c.HTTP = "[::1]:7400", "localhost:7401" },
		"join none":      func(c *Config) { c.Join = "none" },
		"expect itself":  func(c *Config) { c.BootstrapExpect = 1 },
		"addresses":      func(c *Config) { c.Join, c.Advertise, c.Zone = "10.0.0.7:7402, b.example:7402", "10.0.0.9", "r1" },
		"three together": func(c *Config) { c.BootstrapExpect, c.Join = 3, "a:7402,b:7402,c:7402" },
		"keys and TLS": func(c *Config) {
			c.Gossip, c.Peer, c.GossipKeyFile = "10.0.0.1:7402", "10.0.0.1:7403", "keys"
			c.PeerCert, c.PeerKey, c.PeerCA = "c", "k", "a"
		},
	} {
		c := Default()
		c.Name = "n"
		set(&c)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "4096": 4096, "8MiB": 8 * MiB, "64 kib": 64 * KiB, "1g": GiB, "500MB": 500e6, "7b": 7, "2TiB": 2 * TiB,
	} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
		if again, err := ParseBytes(got.String()); err != nil || again != got {
			t.Errorf("%d is written %q, which is read as %d, %v", got, got, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "1PiB", "99999999TiB", "x", "9223372036854775808"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}

func TestCgroupLimit(t *testing.T) {
	for name, x := range map[string]struct {
		files map[string]string
		want  Bytes
		ok    bool
	}{
		"version 2":      {map[string]string{"sys/fs/cgroup/memory.max": "268435456\n"}, 256 * MiB, true},
		"version 2, own": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1048576\n", "sys/fs/cgroup/memory.max": "max\n"}, MiB, true},
		"no limit":       {map[string]string{"sys/fs/cgroup/memory.max": "max\n"}, 0, false},
		"version 1":      {map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n"}, MiB, true},
		"version 1, own": {map[string]string{"proc/self/cgroup": "8:pids:/\n4:cpu,memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1048576\n"}, MiB, true},
		"version 1, no":  {map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0, false},
		"none":           {nil, 0, false},
	} {
		root := t.TempDir()
		for path, text := range x.files {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, ok := cgroupLimit(root); got != x.want || ok != x.ok {
			t.Errorf("%s: got %v, %v", name, got, ok)
		}
	}
}

func TestMemory(t *testing.T) {
	c := Default()
	if n, bound := c.Memory(env("GOMEMLIMIT", "256MiB")); n != 256*MiB || !bound {
		t.Errorf("GOMEMLIMIT: %v, %v", n, bound)
	}
	if n, _ := c.Memory(env("GOMEMLIMIT", "off")); n < 200*MiB || n > largest {
		t.Errorf("no limit: %v", n)
	}
	c.MemoryLimit = GiB
	if n, bound := c.Memory(env("GOMEMLIMIT", "256MiB")); n != GiB || !bound {
		t.Errorf("--memory-limit: %v, %v", n, bound)
	}
}

func TestEndpoints(t *testing.T) {
	near := t.TempDir()
	dir := filepath.Join(near, "waystation-data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	e := &Endpoints{PID: 42, DataDir: dir, Version: "1", Addresses: Addresses{GRPC: "127.0.0.1:1", HTTP: "127.0.0.1:2"}}
	if err := WriteEndpoints(e); err != nil {
		t.Fatal(err)
	}
	found := FindEndpoints(near)
	if len(found) != 1 || !reflect.DeepEqual(found[0], e) {
		t.Fatalf("found %+v", found)
	}
	if len(FindEndpoints(dir)) != 1 {
		t.Error("not found in the data folder itself")
	}
	if err := RemoveEndpoints(dir, 43); err != nil || len(FindEndpoints(near)) != 1 {
		t.Errorf("another process removed it: %v", err)
	}
	if err := RemoveEndpoints(dir, 42); err != nil || len(FindEndpoints(near)) != 0 {
		t.Errorf("not removed: %v", err)
	}
	if err := RemoveEndpoints(dir, 42); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
