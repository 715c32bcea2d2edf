package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/node/config"
)

const (
	// exitDead is sysexits' EX_DATAERR: the packet can never be worked off.
	exitDead = 65
	// whenEmpty is how long nothing must come before --exit-when-empty ends.
	whenEmpty = time.Second
	// killAfter is how long a command whose lease is lost may take to end.
	killAfter = 5 * time.Second
	// mostError is what is kept of a command's standard error: the node's limit.
	mostError = 4 << 10
)

type workOptions struct {
	group, name                string
	concurrency, max, maxBatch int
	lease                      time.Duration
	exitWhenEmpty              bool
	forward                    forwardOptions
	weight                     uint32
	meta                       map[string]string
	slowStart                  bool
}

func workFlags(fs *pflag.FlagSet) *workOptions {
	o := &workOptions{}
	fs.StringVar(&o.group, "group", "", "`group` to work for; made when there is none (required)")
	fs.IntVar(&o.concurrency, "concurrency", 1, "commands, or requests, that run at the same time, each for another repository")
	fs.IntVar(&o.max, "max", 0, "end after so many packets; 0: never")
	fs.BoolVar(&o.exitWhenEmpty, "exit-when-empty", false, "end once nothing is left to do")
	fs.StringVar(&o.name, "worker", "", "`name` of this worker: back under it, it gets its open packets again (default: random)")
	fs.DurationVar(&o.lease, "lease", 0, "how soon another takes over when this one dies (default: the group's)")
	fs.IntVar(&o.maxBatch, "max-batch", 0, "`packets` of one repository under one lease (default: the group's)")
	fs.Uint32Var(&o.weight, "weight", 0, "this worker's share relative to the group's others (default 1)")
	fs.StringToStringVar(&o.meta, "meta", nil, "what to know of this worker, as `key=value`; may be given again")
	fs.BoolVar(&o.slowStart, "slow-start", false, "begin with one packet at a time, and double that as they are done")
	o.forward.flags(fs)
	return o
}

func (o *workOptions) client() []client.WorkOption {
	opts := []client.WorkOption{client.WithConcurrency(o.concurrency), client.WithMaxPackets(o.max), client.WithLease(o.lease)}
	opts = append(opts, client.WithWorkerVersion(config.Version()), client.WithWorkerWeight(o.weight), client.WithWorkerMetadata(o.meta))
	if o.slowStart {
		opts = append(opts, client.WithSlowStart())
	}
	if o.name != "" {
		opts = append(opts, client.WithWorkerName(o.name))
	}
	if o.maxBatch > 0 {
		opts = append(opts, client.WithMaxBatch(o.maxBatch))
	}
	if o.exitWhenEmpty {
		opts = append(opts, client.WithExitWhenEmpty(whenEmpty))
	}
	return opts
}

func runWork(ctx context.Context, s Streams, args []string) error {
	fs, _ := flags("work")
	addr := addrFlag(fs)
	o := workFlags(fs)
	if err := parse(s, fs, args, "work --group G [flags] (-- CMD [ARG…] | --forward URL)"); err != nil {
		return helped(err)
	}
	argv := fs.Args()
	switch {
	case o.group == "":
		return usagef("work: --group is required")
	case o.forward.to.URL != "" && len(argv) > 0:
		return usagef("work: want a command or --forward, not both")
	case o.forward.to.URL == "" && o.forward.given(fs) != "":
		return usagef("work: --%s goes with --forward", o.forward.given(fs))
	case o.forward.to.URL == "" && len(argv) == 0:
		return usagef("work: want a command, as in: work --group %s -- ./index.sh; or --forward URL", o.group)
	case fs.ArgsLenAtDash() > 0:
		return usagef("work: unknown argument %q before --", argv[0])
	case o.concurrency < 1 || o.max < 0 || o.maxBatch < 0:
		return usagef("work: --concurrency must be at least 1, --max and --max-batch not negative")
	}
	if o.forward.to.URL != "" {
		return o.forward.run(ctx, s, *addr, o)
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		return usagef("work: %v", err)
	}
	drain, kill, stop := drainThenKill(ctx, s.Err)
	defer stop()
	c, err := dial(drain, s, *addr)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Work(drain, o.group, (&worker{streams: s, group: o.group, argv: argv, kill: kill}).handle, o.client()...)
	if err != nil && drain.Err() == nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}

// drainThenKill ends drain at the first signal, so that what runs is finished, and
// kill at the second, which ends the commands too: they are in process groups of
// their own, and would else go on without a lease. A third signal has its default.
func drainThenKill(ctx context.Context, notes io.Writer) (drain, kill context.Context, stop func()) {
	drain, endDrain := context.WithCancel(ctx)
	kill, endKill := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, step := range []struct {
			end  func()
			note string
		}{
			{endDrain, "draining: what runs is finished; a second signal ends it"},
			{endKill, "ending what runs"},
		} {
			select {
			case <-signals:
				fmt.Fprintf(notes, "waystation: %s\n", step.note)
				step.end()
			case <-kill.Done():
				return
			}
		}
		signal.Stop(signals)
	}()
	return drain, kill, func() {
		signal.Stop(signals)
		endDrain()
		endKill()
		<-done
	}
}

// worker runs a command for each packet.
type worker struct {
	streams Streams
	group   string
	argv    []string
	kill    context.Context // ends the commands that run
}

// handle runs the command on one packet. How it ended is the settlement: 0 done,
// 65 dead, anything else again.
func (w *worker) handle(ctx context.Context, d *client.Delivery) error {
	env, err := w.environment(d)
	if err != nil {
		return client.Dead(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.kill, cancel)()
	last := &lastBytes{}
	cmd := exec.CommandContext(ctx, w.argv[0], w.argv[1:]...)
	cmd.Env = env
	cmd.Stdin = bytes.NewReader(d.Content)
	cmd.Stdout = w.streams.Out
	cmd.Stderr = &both{a: w.streams.Err, b: last}
	cmd.WaitDelay = killAfter
	detach(cmd)
	err = cmd.Run()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: %s", err, last.text())
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitDead {
		return client.Dead(err)
	}
	return err
}

// environment is this process's, and what a packet says. A publisher chooses
// names and values of metadata: they get a prefix of their own, so that none can
// be PATH or LD_PRELOAD.
func (w *worker) environment(d *client.Delivery) ([]string, error) {
	if strings.ContainsRune(d.RepoID+d.PacketID, 0) {
		return nil, errors.New("repository or packet id has a zero byte, which no environment can carry")
	}
	metadata, err := json.Marshal(nonNil(d.Metadata))
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	env := make([]string, 0, 64)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, metaVariable) { // not those of a packet around us
			env = append(env, v)
		}
	}
	for name, value := range metaVariables(d.Metadata) {
		env = append(env, name+"="+value)
	}
	return append(env,
		"WAYSTATION_REPO="+d.RepoID,
		fmt.Sprintf("WAYSTATION_SEQUENCE=%d", d.Sequence),
		"WAYSTATION_PACKET_ID="+d.PacketID,
		fmt.Sprintf("WAYSTATION_ATTEMPT=%d", d.Attempt),
		fmt.Sprintf("WAYSTATION_LEASE_TOKEN=%d", d.LeaseToken),
		"WAYSTATION_METADATA_JSON="+string(metadata),
		"WAYSTATION_GROUP="+w.group,
		"WAYSTATION_KIND="+strings.ReplaceAll(d.Kind, "\x00", ""),
		"WAYSTATION_PRIORITY="+d.Priority.String(),
		"WAYSTATION_CONTENT_ENCODING="+d.ContentEncoding.String(),
	), nil
}

const metaVariable = "WAYSTATION_META_"

// metaVariables are the metadata whose names, in upper case, are of A-Z0-9_
// alone. Where two differ in case only, the one in upper case counts.
func metaVariables(metadata map[string]string) map[string]string {
	out := make(map[string]string)
	for name, value := range metadata {
		upper := strings.ToUpper(name)
		if name == "" || strings.Trim(upper, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || strings.ContainsRune(value, 0) {
			continue
		}
		if _, other := metadata[upper]; other && name != upper {
			continue
		}
		out[metaVariable+upper] = value
	}
	return out
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
