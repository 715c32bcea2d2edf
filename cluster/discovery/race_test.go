package discovery

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// The processes of these tests are this test binary; childHome says where they
// meet. One prints what it decided and goes on at the next line of its input.
const (
	childHome = "WAYSTATION_TEST_HOME"
	childData = "WAYSTATION_TEST_DATA"
)

const patience = 60 * time.Second

func child() int {
	if err := childRun(os.Getenv(childHome), os.Getenv(childData)); err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

func childRun(dir, data string) error {
	input := bufio.NewReader(os.Stdin)
	lock, err := storage.LockDir(nil, data)
	if err != nil {
		return err
	}
	defer lock.Close()
	gossip, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer gossip.Close()
	home, err := OpenHome(dir)
	if err != nil {
		return err
	}
	var node identity.NodeID
	_, _ = rand.Read(node[:])
	e := Entry{Cluster: "test", NodeID: node.String(), DataDir: data, Gossip: gossip.Addr().String()}
	fmt.Println("ready")
	_, _ = input.ReadString('\n')
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d, err := home.Decide(ctx, "test", Self{Node: node, DataDir: data})
	if err != nil {
		return err
	}
	if d.Choice == Join {
		e.ClusterID = d.Nodes[0].ClusterID
		if err := d.Done(&e); err != nil {
			return err
		}
		fmt.Println("join", e.ClusterID)
	} else {
		fmt.Println(d.Choice)
		_, _ = input.ReadString('\n')
		var id meta.ClusterID
		_, _ = rand.Read(id[:])
		e.ClusterID = id.String()
		if err := d.Done(&e); err != nil {
			return err
		}
		fmt.Println("made", e.ClusterID)
	}
	_, _ = input.ReadString('\n')
	return home.Remove("test", node)
}

type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   *os.File
	said chan string
}

func spawn(t *testing.T, home string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childHome+"="+home, childData+"="+filepath.Join(t.TempDir(), "data"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	p := &process{t: t, cmd: cmd, in: w, said: make(chan string, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = w.Close()
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return p
}

func (p *process) hear() string {
	p.t.Helper()
	select {
	case s := <-p.said:
		return s
	case <-time.After(patience):
		p.t.Fatal("a process says nothing")
		return ""
	}
}

func (p *process) next() {
	p.t.Helper()
	if _, err := p.in.WriteString("\n"); err != nil {
		p.t.Fatal(err)
	}
}

// together starts n processes that decide at the same moment.
func together(t *testing.T, n int) []*process {
	t.Helper()
	home := t.TempDir()
	all := make([]*process, n)
	for i := range all {
		all[i] = spawn(t, home)
	}
	for _, p := range all {
		if got := p.hear(); got != "ready" {
			t.Fatal(got)
		}
	}
	for _, p := range all {
		p.next()
	}
	return all
}

// first waits until one of them is the first node, and returns it and the others.
func first(t *testing.T, all []*process) (*process, []*process) {
	t.Helper()
	which := make(chan int, len(all))
	stop := make(chan struct{})
	done := make(chan struct{})
	for i, p := range all {
		go func() {
			defer func() { done <- struct{}{} }()
			select {
			case s := <-p.said:
				if s != "bootstrap" {
					t.Errorf("process %d said %q", i, s)
				}
				which <- i
			case <-stop:
			}
		}()
	}
	var i int
	select {
	case i = <-which:
	case <-time.After(patience):
		t.Error("nobody is first")
	}
	close(stop)
	for range all {
		<-done
	}
	if len(which) > 0 {
		t.Fatal("two are first")
	}
	if t.Failed() {
		t.FailNow()
	}
	return all[i], append(append([]*process(nil), all[:i]...), all[i+1:]...)
}

func joinAll(t *testing.T, made string, rest []*process) {
	t.Helper()
	id, ok := strings.CutPrefix(made, "made ")
	if !ok {
		t.Fatal(made)
	}
	for _, p := range rest {
		if got := p.hear(); got != "join "+id {
			t.Fatalf("%q, want to join %s", got, id)
		}
	}
}

const rounds = 20

// Of nodes that start at the same moment one makes the cluster, and the others
// wait for it and join it.
func TestStartedAtTheSameMoment(t *testing.T) {
	for i := range rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			winner, rest := first(t, together(t, 3))
			winner.next()
			joinAll(t, winner.hear(), rest)
		})
	}
}

// The first one is killed while it makes the cluster: the next one is the first.
func TestFirstIsKilled(t *testing.T) {
	for i := range rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			winner, rest := first(t, together(t, 3))
			if err := winner.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			second, rest := first(t, rest)
			second.next()
			joinAll(t, second.hear(), rest)
		})
	}
}
