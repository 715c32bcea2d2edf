package sim

import (
	"flag"
	"fmt"
	"testing"
	"testing/cryptotest"

	"go.uber.org/goleak"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "run this seed alone, and say what it was like")
	seedsFlag  = flag.Int("seeds", 0, "run that many new seeds, on all cores")
	timeFlag   = flag.Duration("for", 0, "run new seeds on all cores for so long")
	firstFlag  = flag.Uint64("first", 0, "with -seeds: the first one, so that they are the same each time")
	fromFlag   = flag.Uint64("from", 0, "run seeds from this one on, until stopped")
	stepFlag   = flag.Uint64("step", 1, "with -from: distance of the seeds")
	traceFlag  = flag.Bool("say", false, "print what happens")
	longFlag   = flag.Bool("noshrink", false, "with -seed: do not look for a shorter script")
	flipFlag   = flag.Bool("flips", false, "let bits flip, too")
	policyFlag = flag.Bool("policies", false, "groups have policies, packets wait, dead letters are redriven or discarded")
	eventFlag  = flag.Int("events", 8000, "events of a run")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// history is what a run did.
type history struct {
	set   settings
	ops   []op
	hash  uint64
	err   error
	steps int
	flips int // that were met
}

// run makes a run from a seed.
func run(t *testing.T, s settings, events int) history {
	// raft draws its election timeouts from crypto/rand.
	cryptotest.SetGlobalRandom(t, s.Seed)
	w := newWorld(s)
	d := newDriver(w)
	h := history{set: s, err: w.boot()}
	begin := w.steps
	for h.err == nil && len(h.ops) < events {
		o := d.next()
		h.ops = append(h.ops, o)
		_, h.err = w.do(o)
	}
	if h.err == nil {
		h.err = w.heal()
	}
	h.hash, h.steps = w.hash, w.steps-begin
	if *seedFlag != 0 {
		w.stats()
	}
	h.flips = w.flips
	return h
}

// replay runs a script, and heals behind it.
func replay(t *testing.T, s settings, ops []op) history { return rerun(t, s, ops, true) }

func rerun(t *testing.T, s settings, ops []op, heal bool) history {
	cryptotest.SetGlobalRandom(t, s.Seed)
	w := newWorld(s)
	h := history{set: s, ops: ops, err: w.boot()}
	begin := w.steps
	for _, o := range ops {
		if h.err != nil {
			break
		}
		if _, h.err = w.do(o); h.err != nil {
			break
		}
	}
	if h.err == nil && heal {
		h.err = w.heal()
	}
	h.hash, h.steps = w.hash, w.steps-begin
	return h
}

// fixedSeeds run each time; new ones are run by `make sim` and `make sim-time`.
const fixedSeeds = 40

func TestSeeds(t *testing.T) {
	switch {
	case *seedFlag != 0:
		report(t, run(t, newSettings(*seedFlag), *eventFlag))
	case *fromFlag != 0:
		work(t)
	case *seedsFlag > 0 || *timeFlag > 0:
		spread(t)
	default:
		for seed := uint64(1); seed <= fixedSeeds; seed++ {
			report(t, run(t, newSettings(seed), *eventFlag))
		}
	}
}

// flipSeeds run each time with bits that flip; `make sim FLIPS=1` runs others.
const flipSeeds = 16

// TestFlips: what a flipped bit has hit is found, never served, and made anew.
func TestFlips(t *testing.T) {
	met := 0
	for seed := uint64(1); seed <= flipSeeds; seed++ {
		s := newSettings(seed)
		s.Flips = 1
		h := run(t, s, *eventFlag)
		report(t, h)
		met += h.flips
	}
	if met == 0 {
		t.Error("nobody met a flipped bit")
	}
}

func report(t *testing.T, h history) {
	t.Helper()
	if h.err != nil {
		// At once: to make it shorter takes a while, for which there may be no time.
		fmt.Printf("seed %d: %v\nagain: go test ./internal/sim -run TestSeeds -v -seed %d -events %d -flips=%t -policies=%t\n",
			h.set.Seed, h.err, h.set.Seed, *eventFlag, h.set.Flips > 0, h.set.Policies > 0)
		if *longFlag {
			t.FailNow()
		}
		t.Errorf("seed %d: %v\n%s", h.set.Seed, h.err, save(t, h))
	}
}

// TestSameSeedSameHistory: or nothing that is found could be found again.
func TestSameSeedSameHistory(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		a, b := run(t, newSettings(seed), 2000), run(t, newSettings(seed), 2000)
		if a.hash != b.hash {
			t.Errorf("seed %d: two histories, %x and %x", seed, a.hash, b.hash)
		}
		if c := replay(t, a.set, a.ops); c.hash != a.hash {
			t.Errorf("seed %d: its script has another history", seed)
		}
	}
}
