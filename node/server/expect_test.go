package server_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/waystation/waystation/node/config"
	"github.com/waystation/waystation/node/server"
)

// expecting is three nodes that found a cluster together, each told of all.
func expecting(gossip []string, i int) func(*config.Config) {
	return func(c *config.Config) {
		c.Name, c.Gossip, c.BootstrapExpect = []string{"one", "two", "three"}[i], gossip[i], 3
		c.Join = gossip[0] + "," + gossip[1] + "," + gossip[2]
	}
}

// TestBootstrapExpect: three nodes that are told of each other make one cluster.
// One that is killed before there is any comes back, and is part of it.
func TestBootstrapExpect(t *testing.T) {
	t.Parallel()
	gossip := []string{freePort(t), freePort(t), freePort(t)}
	dirs := []string{dataDir(t), dataDir(t), dataDir(t)}
	// The first life of the first node ends with a kill, while it waits.
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childNode+"="+dirs[0], childNode+"_EXPECT="+gossip[0]+","+gossip[1]+","+gossip[2])
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	second := launch(t, dirs[1], server.Hooks{}, expecting(gossip, 1))
	await(t, "the first life's data folder", func() bool {
		_, err := os.Stat(dirs[0])
		return err == nil
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // says that it was killed
	third := launch(t, dirs[2], server.Hooks{}, expecting(gossip, 2))
	first := launch(t, dirs[0], server.Hooks{}, expecting(gossip, 0))
	all := []*node{first.ready(), second.ready(), third.ready()}
	await(t, "one cluster with three copies", func() bool { return replicated(first.describe(), 3) })
	for _, n := range all {
		if d := n.describe(); len(d.GetNodes()) != 3 || d.GetClusterId() != clusterID(first) {
			t.Errorf("node %s: cluster %s with %d nodes", n.Name, d.GetClusterId(), len(d.GetNodes()))
		}
	}
	// A later start with the same flags is a member's.
	second.stop()
	second = start(t, dirs[1], expecting(gossip, 1))
	second.publish("acme/api", "x")
}
