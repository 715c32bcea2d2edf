//go:build !windows

package fleet

import (
	"os"
	"syscall"
)

// CanPause says whether processes can be paused on this system.
const CanPause = true

func suspend(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error  { return p.Signal(syscall.SIGCONT) }

// terminate asks a node to drain.
func terminate(p *process) error { return p.cmd.Process.Signal(syscall.SIGTERM) }

// ownGroup keeps a terminal's Ctrl-C from the node: the load test decides when it ends.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
