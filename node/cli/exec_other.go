//go:build !unix

package cli

import "os/exec"

// detach leaves the command as it is: only its own process ends with its lease.
func detach(*exec.Cmd) {}
