package options

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ScenarioName names a course of events with a question of its own.
type ScenarioName string

// The scenarios.
const (
	// WorkersDie has half of the workers die at once, again and again.
	WorkersDie ScenarioName = "workers-die"
	// Isolation has a stuck, a failing and a hot repository come and go among many others.
	Isolation ScenarioName = "isolation"
	// Backlog has packets wait in many lanes before workers come: few first, many then.
	Backlog ScenarioName = "backlog"
)

// Scenario is what --scenario asked for; the zero value is none. It sets defaults
// of other options where those were not given.
type Scenario struct {
	Name ScenarioName
	// Every is the time from one kill to the next, or of one phase of Isolation.
	Every time.Duration
	// Hot is how many packets the hot repository gets for each one of all the others.
	Hot float64
	// Depth is how many packets wait in each lane, and Small the share of the lanes
	// that the first, smaller backlog has.
	Depth int
	Small float64
}

// ParseScenario reads "workers-die", "workers-die:every=3s" or "backlog:depth=10,small=0.01".
func ParseScenario(s string) (Scenario, error) {
	name, params, _ := strings.Cut(s, ":")
	sc := Scenario{Name: ScenarioName(name)}
	switch sc.Name {
	case WorkersDie:
		sc.Every = 3 * time.Second
	case Isolation:
		sc.Every, sc.Hot = time.Second, 0.5
	case Backlog:
		sc.Depth, sc.Small = 10, 0.01
	default:
		return sc, fmt.Errorf("scenario %q: must be %s, %s or %s", name, WorkersDie, Isolation, Backlog)
	}
	for param := range strings.SplitSeq(params, ",") {
		if param == "" {
			continue
		}
		if err := sc.set(param); err != nil {
			return sc, err
		}
	}
	return sc, nil
}

func (s *Scenario) set(param string) (err error) {
	key, value, _ := strings.Cut(param, "=")
	switch {
	case key == "every" && s.Every > 0:
		s.Every, err = time.ParseDuration(value)
	case key == "hot" && s.Name == Isolation:
		s.Hot, err = strconv.ParseFloat(value, 64)
	case key == "depth" && s.Name == Backlog:
		s.Depth, err = strconv.Atoi(value)
	case key == "small" && s.Name == Backlog:
		s.Small, err = strconv.ParseFloat(value, 64)
	default:
		return fmt.Errorf("scenario %s: unknown parameter %q", s.Name, key)
	}
	if err != nil {
		return fmt.Errorf("scenario %s: %s=%q cannot be read", s.Name, key, value)
	}
	return nil
}

// scenarioDefaults fills in what the scenario needs and nobody gave.
func (o *Options) scenarioDefaults(given map[string]bool) {
	unless := func(name string, set func()) {
		if !given[name] {
			set()
		}
	}
	if o.Scenario.Name == "" {
		return
	}
	unless("workload", func() { o.Workload = Synthetic })
	switch o.Scenario.Name {
	case WorkersDie:
		unless("rate", func() { o.Rate = 4000 })
		unless("repos", func() { o.Repos = 10_000 })
		unless("duration", func() { o.Duration = 30 * time.Second })
		unless("lease", func() { o.Lease = 2 * time.Second })
	case Isolation:
		unless("rate", func() { o.Rate = 1000 })
		unless("repos", func() { o.Repos = 1_000_000 })
		unless("duration", func() { o.Duration = 48 * time.Second })
	case Backlog:
		unless("repos", func() { o.Repos = 1_000_000 })
		unless("size", func() { o.Size = 100 })
		unless("resend", func() { o.Resend = 0 })
		unless("drain", func() { o.Drain = 30 * time.Minute })
	}
}

// isolationRepos is how many repositories there must be beside the three.
const isolationRepos = 4

func (o *Options) validateScenario() (errs []error) {
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("--scenario %s: "+format, append([]any{o.Scenario.Name}, args...)...))
		}
	}
	s := &o.Scenario
	if s.Name == "" {
		return nil
	}
	need(o.Work, "nothing to see without workers; leave --phases out")
	need(!o.Staged(), "not with --rolling-restart or --grow")
	switch s.Name {
	case WorkersDie:
		need(o.Workers >= 2, "half of %d workers is none; use --workers 2 or more", o.Workers)
		need(s.Every > 0 && s.Every <= o.Warmup+o.Duration, "every=%v must be more than 0, and within --warmup and --duration", s.Every)
		need(o.Rate > 0, "--rate 0: a speed that is to come back must be one that was asked for; use --rate")
	case Isolation:
		need(o.Workload == Synthetic, "only with --workload synthetic")
		need(o.Rate > 0, "--rate 0: latencies are compared at one rate; use --rate")
		need(o.Repos >= isolationRepos, "--repos %d: must be %d or more", o.Repos, isolationRepos)
		need(s.Every > 0 && 2*s.Every <= o.Duration, "every=%v must be more than 0, and twice within --duration", s.Every)
		need(s.Hot >= 0 && s.Hot <= 10, "hot=%v must be 0 to 10", s.Hot)
	case Backlog:
		need(o.Workload == Synthetic, "only with --workload synthetic")
		need(o.Rate == 0, "the backlog is published as fast as it can be; leave --rate out")
		need(len(o.Faults) == 0, "not with --fault")
		need(o.Targets == "", "needs an empty relay; leave --target out")
		need(s.Depth >= 1 && float64(s.Depth)*float64(o.Repos) <= 1e8, "depth=%d must be 1 or more, and 100000000 packets at most in all", s.Depth)
		need(s.Small > 0 && s.Small <= 1, "small=%v must be a share of the lanes", s.Small)
	}
	return errs
}

// SmallLanes is how many lanes the smaller backlog has.
func (o *Options) SmallLanes() int { return max(1, int(float64(o.Repos)*o.Scenario.Small)) }
