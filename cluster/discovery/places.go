package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/waystation/waystation/storage"
)

// maxFolders bounds the data folders that are tried.
const maxFolders = 64

// PickDataDir chooses a data folder and takes it with lock, which creates and
// locks it and fails with storage.ErrLocked where another process has it. If the
// user named the folder (set), it is that one or an error. Otherwise, with
// another node in it, it is the first of dir-2, dir-3, … that exists and is free,
// so that a second node finds its own again; and else the first that does not
// exist yet. exists says whether a folder is there.
func PickDataDir[L any](dir string, set bool, exists func(string) bool, lock func(string) (L, error)) (string, L, error) {
	l, err := lock(dir)
	if err == nil || set || !errors.Is(err, storage.ErrLocked) {
		return dir, l, err
	}
	for _, there := range []bool{true, false} {
		for n := 2; n <= maxFolders; n++ {
			next := fmt.Sprintf("%s-%d", strings.TrimRight(dir, `/\`), n)
			if exists(next) != there {
				continue
			}
			l, err := lock(next)
			if err == nil || !errors.Is(err, storage.ErrLocked) {
				return next, l, err
			}
		}
	}
	var none L
	return "", none, fmt.Errorf("pick a data folder: %s and %d more are in use; name one with --data-dir: %w", dir, maxFolders-1, err)
}

// Exists says whether a file or folder is there.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// portWait is how long a node that took a port has for telling of it.
const portWait = 3 * time.Second

// PickPort listens on addr. If its port is taken by another node of this machine,
// which ours says, and the user did not name the address (set), it listens on a
// free one. ours is asked for a while: a node that just began has not said so yet.
func PickPort[L any](ctx context.Context, addr string, set bool, ours func(addr string) bool, listen func(addr string) (L, error)) (L, error) {
	l, err := listen(addr)
	if err == nil || set || !inUse(err) {
		return l, err
	}
	host, port, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return l, errors.Join(err, splitErr)
	}
	ctx, cancel := context.WithTimeout(ctx, portWait)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for !ours(addr) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return l, fmt.Errorf("%w: %s; choose another one by its flag, or 0 for a free one: %w", ErrPortTaken, port, err)
		}
	}
	return listen(net.JoinHostPort(host, strconv.Itoa(0)))
}

// inUse knows a taken port by its error; Windows has a number of its own for it.
func inUse(err error) bool {
	const wsaAddrInUse = syscall.Errno(10048)
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaAddrInUse)
}
