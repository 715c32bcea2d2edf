package drive

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/history"
)

// Asker is what questions are asked of.
type Asker interface {
	Repository(ctx context.Context, repo string) (*client.RepositoryInfo, error)
}

// asker asks the relay, all the time, for the newest number of the repositories
// whose history is recorded: an answer from a past that is over is as bad as a
// lost packet to who relies on it.
type asker struct {
	asker   Asker
	history *history.Recorder
	names   *names
	clock   clock
}

const (
	// historyRepos are recorded; historyAsk is the time between two questions, all
	// in all; historyCheck how long the check may take.
	historyRepos = 8
	historyAsk   = 5 * time.Millisecond
	askTimeout   = 10 * time.Second
	historyCheck = 10 * time.Second
	// historyAskers ask at the same time: one that waits for a leader is no reason
	// for the others to wait.
	historyAskers = 4
)

// sampleRepos draws the repositories to be recorded.
func sampleRepos(repos int, seed uint64) []int {
	random := rand.New(rand.NewPCG(seed, 4))
	return random.Perm(repos)[:min(repos, historyRepos)]
}

// run asks until ctx ends. What was not answered tells nothing.
func (a *asker) run(ctx context.Context, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 5))
	sample := a.history.Sample()
	for sleep(ctx, historyAsk*historyAskers) {
		a.ask(ctx, sample[random.IntN(len(sample))])
	}
	return nil
}

func (a *asker) ask(ctx context.Context, repo int) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	call := a.clock.now()
	info, err := a.asker.Repository(ctx, a.names.repos[repo])
	switch {
	case err == nil:
		a.history.Read(repo, info.Head, call, a.clock.now())
	case client.ErrorCode(err) == client.CodeNotFound:
		a.history.Read(repo, 0, call, a.clock.now())
	}
}
