package fleet

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// namespaces gives each node a network namespace of its own, joined by a bridge in
// the one that this process is in, which is its own too (see Inside). Nothing of
// it outlives the processes: no name of it is anywhere but in their memory.
//
// A node is cut off by what it believes of its neighbours: frames to the others
// go to an address on the link that nobody has. So they vanish on the wire, in
// one direction only if need be, and no call errs.
type namespaces struct {
	keyFile string

	mu    sync.Mutex
	files map[int]*os.File // namespaces by node
}

const (
	bridge = "ws0"
	subnet = "10.77.0."
	hub    = subnet + "254"
	nobody = "02:77:00:00:00:ff"
)

func hostOf(node int) string { return fmt.Sprintf("%s%d", subnet, node+1) }
func linkOf(node int) string { return fmt.Sprintf("02:77:00:00:00:%02x", node+1) }

// newNamespaces makes the bridge.
func newNamespaces(dir string) (Network, error) {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	n := &namespaces{keyFile: filepath.Join(dir, "gossip.key"), files: map[int]*os.File{}}
	if err := os.WriteFile(n.keyFile, []byte(base64.StdEncoding.EncodeToString(key[:])+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write gossip key: %w", err)
	}
	return n, configure(nil, "link set lo up", "link add "+bridge+" type bridge", "addr add "+hub+"/24 dev "+bridge, "link set "+bridge+" up")
}

// Place implements Network.
func (n *namespaces) Place(node int) (Place, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	file := n.files[node]
	if file == nil {
		var err error
		if file, err = newNamespace(); err != nil {
			return Place{}, err
		}
		n.files[node] = file
		if err := n.wire(node, file); err != nil {
			return Place{}, err
		}
	}
	host := hostOf(node)
	return Place{
		Addresses:     Addresses{GRPC: host + ":7400", HTTP: host + ":7401", Gossip: host + ":7402", Peer: host + ":7403"},
		GossipKeyFile: n.keyFile,
		Start:         func(cmd *exec.Cmd) error { return within(file, cmd.Start) },
	}, nil
}

// wire connects a node's namespace with the bridge, and tells it all neighbours'
// addresses on the link, so that it never has to ask: an answer could be cut off.
func (n *namespaces) wire(node int, file *os.File) error {
	port := fmt.Sprintf("ws%d", node+1)
	err := configure(nil,
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns /proc/%d/fd/%d", port, linkOf(node), os.Getpid(), file.Fd()),
		fmt.Sprintf("link set %s master %s up", port, bridge))
	if err != nil {
		return err
	}
	lines := []string{"link set lo up", "addr add " + hostOf(node) + "/24 dev eth0", "link set eth0 up"}
	for other := range maxPlaces {
		if other != node {
			lines = append(lines, neighbour(other, linkOf(other)))
		}
	}
	return configure(file, lines...)
}

// maxPlaces is how many nodes know of each other.
const maxPlaces = 16

func neighbour(node int, link string) string {
	return "neigh replace " + hostOf(node) + " lladdr " + link + " nud permanent dev eth0"
}

// Cut implements Network.
func (n *namespaces) Cut(node int, others []int, way Way) error {
	return n.direct(node, others, way, func(int) string { return nobody })
}

// Heal implements Network.
func (n *namespaces) Heal(node int, others []int) error {
	return n.direct(node, others, BothWays, linkOf)
}

// direct says where frames between a node and the others go.
func (n *namespaces) direct(node int, others []int, way Way, link func(int) string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, other := range others {
		out = append(out, neighbour(other, link(other)))
		if file := n.files[other]; file != nil && way != Outbound {
			if err := configure(file, neighbour(node, link(node))); err != nil {
				return err
			}
		}
	}
	if way == Inbound || len(out) == 0 {
		return nil
	}
	return configure(n.files[node], out...)
}

// Close implements Network.
func (n *namespaces) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for node, file := range n.files {
		_ = file.Close() // the namespace goes with its last process
		delete(n.files, node)
	}
	return nil
}

// newNamespace returns a network namespace that lives as long as the file is open
// or a process is in it.
func newNamespace() (file *os.File, err error) {
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			file, err = os.Open("/proc/thread-self/ns/net")
		}
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return file, nil
}

// within calls do in a network namespace; what it starts stays there. do must not
// hand work to other goroutines.
func within(file *os.File, do func() error) (err error) {
	onThread(func() {
		if err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err == nil {
			err = do()
		}
	})
	return err
}

// onThread runs do on a thread that ends with it, whatever do made of it.
func onThread(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		do()
	}()
	<-done
}

// configure has ip carry out commands, in a namespace or, with nil, in this one.
func configure(file *os.File, lines ...string) error {
	var stderr bytes.Buffer
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Join(lines, "\n")+"\n"), &stderr
	run := cmd.Run
	var err error
	if file == nil {
		err = run()
	} else {
		// Only its start has to happen there: Run's goroutines copy what it says.
		if err = within(file, cmd.Start); err == nil {
			err = cmd.Wait()
		}
	}
	if err != nil {
		return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
