package server_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// machine is nodes that find each other by themselves, as processes of one
// machine that is the test's own.
type machine struct {
	t     *testing.T
	home  string
	dir   string // of the first; the others take dir-2 and dir-3
	ports string
	runs  []*exec.Cmd
}

func newMachine(t *testing.T) *machine {
	root := t.TempDir()
	m := &machine{t: t, home: filepath.Join(root, "home"), dir: filepath.Join(root, "waystation-data")}
	m.ports = strings.Join([]string{freePort(t), freePort(t), freePort(t), freePort(t)}, ",")
	t.Cleanup(m.kill)
	return m
}

// run starts a node without flags.
func (m *machine) run() {
	m.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childNode+"="+m.dir, childNode+"_AUTO="+m.ports, "HOME="+m.home, "XDG_CACHE_HOME="+m.home)
	c.Stderr = testWriter{m.t}
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.runs = append(m.runs, c)
}

// kill ends all of them as a failing machine would.
func (m *machine) kill() {
	for _, c := range m.runs {
		_ = c.Process.Kill()
		_ = c.Wait() // says that it was killed
	}
	m.runs = nil
}

// nodes are those that run now and serve.
func (m *machine) nodes() (out []*node) {
	for _, suffix := range []string{"", "-2", "-3"} {
		e, err := config.ReadEndpoints(m.dir + suffix)
		if err != nil {
			continue
		}
		for _, c := range m.runs {
			if c.Process.Pid == e.PID {
				out = append(out, &node{t: m.t, dir: m.dir + suffix, Endpoints: *e})
			}
		}
	}
	return out
}

// together waits until three nodes are one cluster with three copies of all, and
// returns them by data folder.
func (m *machine) together() []*node {
	m.t.Helper()
	var all []*node
	await(m.t, "three nodes that serve", func() bool { all = m.nodes(); return len(all) == 3 })
	for _, n := range all {
		n.connect()
		m.t.Cleanup(func() { n.conn.Close() })
	}
	await(m.t, "one cluster with three copies", func() bool {
		d := all[0].describe()
		return len(d.GetNodes()) == 3 && replicated(d, 3)
	})
	return all
}

// TestNodesOfOneMachine: three nodes that are started at the same moment, without
// a flag, are one cluster; killed and started again, they are the same one.
func TestNodesOfOneMachine(t *testing.T) {
	m := newMachine(t)
	for range 3 {
		m.run()
	}
	before := m.together()
	cluster := clusterID(before[0])
	before[1].publish("acme/api", "x")
	for range 2 {
		m.kill()
		for range 3 {
			m.run()
		}
		after := m.together()
		for i, n := range after {
			if n.NodeID != before[i].NodeID || clusterID(n) != cluster {
				t.Errorf("node %s of cluster %s came from %s of %s", n.NodeID, clusterID(n), before[i].NodeID, cluster)
			}
		}
		if got := after[2].http("GET", "/v1/repos/acme/api/packets/1", "", nil); got != 200 {
			t.Errorf("the packet: %d", got)
		}
	}
}

// TestAllStopped: nodes that were told whom to join are a cluster again when all
// were stopped, at other ports too, as long as one of them is where it was.
func TestAllStopped(t *testing.T) {
	t.Parallel()
	gossip := freePort(t)
	dirs := []string{dataDir(t), dataDir(t), dataDir(t)}
	up := func(i int) *node {
		return launch(t, dirs[i], server.Hooks{}, func(c *config.Config) {
			if c.Name = []string{"one", "two", "three"}[i]; i == 0 {
				c.Gossip = gossip
			} else {
				c.Join = gossip
			}
		})
	}
	nodes := []*node{up(0).ready(), up(1).ready(), up(2).ready()}
	await(t, "three copies", func() bool { return replicated(nodes[0].describe(), 3) })
	nodes[0].publish("acme/api", "x")
	for _, n := range nodes {
		n.cancel()
	}
	for _, n := range nodes {
		n.stop()
	}
	// One alone has no majority and waits; so they come at once.
	nodes = []*node{up(0), up(1), up(2)}
	for _, n := range nodes {
		if got := n.ready().publish("acme/api", "y"); got.Sequence == "1" {
			t.Errorf("receipt %+v", got)
		}
	}
}
