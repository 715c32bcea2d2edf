//go:build unix

package cli

import (
	"os/exec"
	"syscall"
)

// detach gives the command a process group of its own: a terminal's Ctrl-C then
// drains the worker and leaves what runs alone, and a lost lease ends the
// command's children too.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}
