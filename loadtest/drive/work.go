package drive

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/verify"
)

const (
	// workerConcurrency and workerCredit keep a session's pipe full: its handlers
	// only look, so what it can hold bounds what it gets done.
	workerConcurrency = 16
	workerCredit      = 512
	// workerDrain is how long handlers may take at the end: they wait for nothing
	// but a probe.
	workerDrain = 5 * time.Second
)

// startWorkers starts the sessions; the function that it returns ends them, and
// waits for their end.
func (r *run) startWorkers(ctx context.Context) (stop func()) {
	if !r.o.Work {
		return func() {}
	}
	if r.mortals != nil {
		return r.mortals.start(ctx)
	}
	working, cancel := context.WithCancel(ctx)
	var sessions sync.WaitGroup
	for i := range r.o.Workers {
		r.spawn(&sessions, func() error { return r.work(working, i) })
	}
	return func() {
		cancel()
		sessions.Wait()
	}
}

func (r *run) work(ctx context.Context, i int) error {
	err := r.working.Work(ctx, r.names.group, r.worker.handle, r.workOptions(i)...)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("work: %w", err)
	}
	return nil
}

// workOptions are those of the i-th session.
func (r *run) workOptions(i int) []client.WorkOption {
	all := []client.WorkOption{
		client.WithWorkerName(fmt.Sprintf("%s-%d", r.names.group, i)), client.WithLease(r.o.Lease),
		client.WithConcurrency(workerConcurrency), client.WithCredit(workerCredit), client.WithDrainTimeout(workerDrain),
	}
	if r.o.Batch > 0 {
		all = append(all, client.WithMaxBatch(r.o.Batch))
	}
	return all
}

const (
	// drainLinger is how long workers stay after everything is settled: a packet
	// that is handed out once more is to be seen.
	drainLinger = time.Second
	// drainLook is how long nothing may be settled before the relay is asked about the rest.
	drainLook = 2 * time.Second
)

// drain waits until everything that is acknowledged is settled or dead, at most
// as long as was asked for.
func (r *run) drain(ctx context.Context) error {
	r.enter("draining")
	deadline, cancel := context.WithTimeout(ctx, r.o.Drain)
	defer cancel()
	progress, at := r.verifier.Live().Settled, r.clock.now()
	for r.verifier.Live().Open > 0 {
		if !sleep(deadline, 5*time.Millisecond) {
			break
		}
		now := r.clock.now()
		switch settled := r.verifier.Live().Settled; {
		case settled != progress:
			progress, at = settled, now
		case now-at > drainLook:
			at = now
			if err := r.ask(deadline); err != nil && deadline.Err() == nil {
				return err
			}
		}
	}
	sleep(ctx, drainLinger)
	return r.ask(ctx)
}

// ask learns from the relay what the workers have not: which packets are dead,
// and which are done although the answer to their settlement never came.
func (r *run) ask(ctx context.Context) error {
	if err := r.worker.dead(ctx, r.working); err != nil {
		return err
	}
	for _, m := range r.verifier.Missing(true, askMost) {
		if !m.Delivered {
			continue
		}
		info, err := r.working.Lookup(ctx, r.names.repos[m.Repo], m.Number)
		switch {
		case client.ErrorCode(err) == client.CodeNotFound:
		case err != nil:
			return err
		case r.doneIn(info):
			r.verifier.Confirm(m.Repo, m.Index, verify.TickOf(r.clock.now()))
			r.confirmed++
		}
	}
	return nil
}

// askMost bounds the questions of one round.
const askMost = 2000

func (r *run) doneIn(info *client.PacketInfo) bool {
	for _, g := range info.Groups {
		if g.Group == r.names.group {
			return g.State == "done"
		}
	}
	return false
}
