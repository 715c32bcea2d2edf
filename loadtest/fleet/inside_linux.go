package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// insideVariable is set for a process that Inside started.
const insideVariable = "WAYSTATION_LOADTEST_INSIDE"

// InNamespace says whether this process has a network of its own.
func InNamespace() bool { return os.Getenv(insideVariable) != "" }

// ErrNoNamespace says that this system lets this user have no network of its own.
var ErrNoNamespace = errors.New("no rights to make a network namespace")

// Inside runs this program again with the same arguments, in a network of its
// own, and returns its exit code. So nothing that the run does to networks
// touches the machine's. Without rights it errs with ErrNoNamespace.
func Inside(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoNamespace, err)
	}
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	if err := probeNamespace(ctx); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoNamespace, err)
	}
	cmd := exec.Command(self, args...) //nolint:gosec // itself
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = stdout, stderr, unshared()
	// Its end is this process's: whoever reads from it learns of it.
	hold, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("start inside: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start inside: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
			_ = hold.Close()
		case <-ended:
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("run inside: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

const probeTimeout = 5 * time.Second

// probeNamespace tries whether links can be made in a namespace of one's own:
// some systems let one have it and then do nothing in it.
func probeNamespace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "link", "add", bridge, "type", "bridge")
	cmd.SysProcAttr = unshared()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// unshared gives a process a network namespace, by way of a user namespace where
// the user is not root.
func unshared() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	}
	return attr
}
