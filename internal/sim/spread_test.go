package sim

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// fresh is a seed that nobody has seen.
func fresh() uint64 { return uint64(time.Now().UnixNano()) >> 10 }

// work runs seeds until it is stopped, and says so after each: a process of its
// own, because the random source that raft draws from is the process's.
func work(t *testing.T) {
	for seed := *fromFlag; ; seed += *stepFlag {
		h := run(t, newSettings(seed), *eventFlag)
		if report(t, h); h.err != nil {
			return
		}
		fmt.Printf("seed %d good\n", seed)
	}
}

// spread runs new seeds in as many processes as there are cores, until enough are
// done or the time is up.
func spread(t *testing.T) {
	limit := *timeFlag
	if limit == 0 {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	first, cores := *firstFlag, uint64(runtime.GOMAXPROCS(0))
	if first == 0 {
		first = fresh()
	}
	var mu sync.Mutex
	done := 0
	good := func() {
		mu.Lock()
		defer mu.Unlock()
		if done++; done == *seedsFlag {
			cancel()
		}
	}
	var all sync.WaitGroup
	for i := range cores {
		all.Go(func() {
			if out := child(ctx, first+i, cores, good); out != "" {
				cancel()
				t.Error(out)
			}
		})
	}
	all.Wait()
	fmt.Printf("%d seeds from %d on, %d events each\n", done, first, *eventFlag)
}

// child runs a process, calls good for each seed, and returns what it says when a
// seed fails.
func child(ctx context.Context, from, step uint64, good func()) string {
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSeeds$", "-test.timeout=0",
		fmt.Sprint("-from=", from), fmt.Sprint("-step=", step), fmt.Sprint("-events=", *eventFlag), fmt.Sprint("-flips=", *flipFlag), fmt.Sprint("-policies=", *policyFlag))
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err.Error()
	}
	var rest strings.Builder
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if strings.HasSuffix(lines.Text(), " good") {
			good()
			continue
		}
		rest.WriteString(lines.Text() + "\n")
	}
	err = cmd.Wait()
	if ctx.Err() != nil && rest.Len() == 0 {
		return ""
	}
	if err != nil && rest.Len() == 0 {
		return err.Error()
	}
	return rest.String()
}
