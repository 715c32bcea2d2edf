// Command planted breaks each promise on purpose, one at a time, in a copy of the
// tree, and runs the test that must notice. It fails when a test passes over
// broken code: such a test asserts nothing. Each test must pass over the code as it
// is first, and must fail by itself: to run out of time is not to notice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "plant only the bugs whose name contains this")
	verbose := flag.Bool("v", false, "show what the failing tests printed")
	flag.Parse()
	missed, err := run(context.Background(), *only, *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(2)
	}
	if missed > 0 {
		fmt.Fprintf(os.Stderr, "planted: %d broken promises went unnoticed\n", missed)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, verbose bool) (missed int, err error) {
	tree, err := os.MkdirTemp("", "waystation-planted-")
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := os.RemoveAll(tree); err == nil {
			err = e
		}
	}()
	if err := copyTree(tree); err != nil {
		return 0, fmt.Errorf("copy tree: %w", err)
	}
	if err := upToDate(); err != nil {
		return 0, err
	}
	sound := map[string]bool{} // tests that pass over the code as it is
	for _, b := range bugs {
		if !strings.Contains(b.name, only) {
			continue
		}
		if key := b.pkg + " " + b.test; !sound[key] {
			passed, output, err := runTest(ctx, tree, b)
			switch {
			case err != nil:
				return missed, fmt.Errorf("%s: %w", key, err)
			case !passed:
				return missed, fmt.Errorf("%s fails over code that is not broken:\n%s", key, output)
			}
			sound[key] = true
		}
		caught, output, err := plant(ctx, tree, b)
		if err != nil {
			return missed, fmt.Errorf("%s: %w", b.name, err)
		}
		verdict := "caught"
		if !caught {
			verdict = "MISSED"
			missed++
		}
		fmt.Printf("%s  %-3s %-34s %s %s\n", verdict, b.promise, b.name, b.pkg, b.test)
		if verbose || !caught {
			fmt.Println(output)
		}
	}
	return missed, nil
}

// upToDate finds the code to break of every bug, before the first one is planted.
func upToDate() error {
	var stale []error
	for _, b := range bugs {
		whole, err := os.ReadFile(filepath.FromSlash(b.file))
		if err != nil {
			return err
		}
		if n := strings.Count(string(whole), b.old); n != 1 {
			stale = append(stale, fmt.Errorf("%s: the code to break stands in %s %d times, want once: bring internal/planted up to date", b.name, b.file, n))
		}
	}
	return errors.Join(stale...)
}

// plant changes the copy, runs the test, and changes the copy back.
func plant(ctx context.Context, tree string, b bug) (caught bool, output string, err error) {
	file := filepath.Join(tree, filepath.FromSlash(b.file))
	whole, err := os.ReadFile(file)
	if err != nil {
		return false, "", err
	}
	broken := strings.Replace(string(whole), b.old, b.new, 1)
	if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
		return false, "", err
	}
	defer func() {
		if e := os.WriteFile(file, whole, 0o600); err == nil {
			err = e
		}
	}()
	passed, output, err := runTest(ctx, tree, b)
	return !passed, output, err
}

// runTest runs the bug's test in the tree as it is. That nothing was tested, or
// not to its end, is an error.
func runTest(ctx context.Context, tree string, b bug) (passed bool, output string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-failfast", "-timeout=240s", "-run", "^"+b.test+"$", "./"+b.pkg)
	cmd.Dir = tree
	out, runErr := cmd.CombinedOutput()
	output = string(out)
	switch {
	case strings.Contains(output, "[build failed]"), strings.Contains(output, "[setup failed]"):
		return false, output, fmt.Errorf("the code does not build:\n%s", output)
	case strings.Contains(output, "no tests to run"):
		return false, output, fmt.Errorf("no test matches %s", b.test)
	case ctx.Err() != nil, strings.Contains(output, "panic: test timed out"):
		return false, output, fmt.Errorf("%s does not end:\n%s", b.test, output)
	}
	return runErr == nil, output, nil
}

// copyTree copies the module without what git and builds leave in it.
func copyTree(to string) error {
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != "." && (strings.HasPrefix(d.Name(), ".") || path == "bin" || strings.HasPrefix(d.Name(), "waystation-data")) {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, path), 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), b, 0o600)
	})
}
