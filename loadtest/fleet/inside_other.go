//go:build !linux

package fleet

import (
	"context"
	"errors"
	"io"
)

// InNamespace says whether this process has a network of its own.
func InNamespace() bool { return false }

// ErrNoNamespace says that this system lets this user have no network of its own.
var ErrNoNamespace = errors.New("this system has no network namespaces")

// Inside always errs with ErrNoNamespace here.
func Inside(context.Context, []string, io.Writer, io.Writer) (int, error) { return 0, ErrNoNamespace }

func newNamespaces(string) (Network, error) { return nil, ErrNoNamespace }
