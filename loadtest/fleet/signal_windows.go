package fleet

import (
	"errors"
	"os"
	"syscall"
)

// CanPause says whether processes can be paused on this system.
const CanPause = false

func suspend(*os.Process) error { return errors.ErrUnsupported }
func resume(*os.Process) error  { return errors.ErrUnsupported }

// terminate asks a node to drain: here it is the end of its input that does.
func terminate(p *process) error { return p.stdin.Close() }

// ownGroup keeps a terminal's Ctrl-C from the node: the load test decides when it ends.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
