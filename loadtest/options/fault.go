package options

import (
	"fmt"
	"strings"
	"time"
)

// FaultKind names what is done to nodes.
type FaultKind string

// The faults.
const (
	// Kill ends a node's process without warning and starts it again on the same data and addresses.
	Kill FaultKind = "kill"
	// Pause stops a node's process where it stands and lets it go on later.
	Pause FaultKind = "pause"
	// Partition cuts a node off the others, in both directions or in one.
	Partition FaultKind = "partition"
	// PowerLoss ends all nodes at once, with all that they had not synced.
	PowerLoss FaultKind = "powerloss"
	// SlowDisk lets each sync of a node's disk take longer.
	SlowDisk FaultKind = "slowdisk"
)

// Fault is something that happens to nodes again and again while there is load.
type Fault struct {
	Kind FaultKind
	// Every is the time from one to the next; the first one comes after it, too.
	Every time.Duration
	// For is how long it lasts; for a kill, how long the node stays away.
	For time.Duration
	// Delay is what a slow disk adds to each sync.
	Delay time.Duration
}

const defaultDelay = 20 * time.Millisecond

// lasts is how long a fault lasts unless told, and whether it can be told.
func (k FaultKind) lasts() (usual time.Duration, settable, known bool) {
	switch k {
	case Kill:
		return 0, true, true
	case Pause:
		return time.Second, true, true
	case Partition:
		return 3 * time.Second, true, true
	case SlowDisk:
		return 2 * time.Second, true, true
	case PowerLoss:
		return 0, false, true
	}
	return 0, false, false
}

// ParseFaults reads "kill:every=5s,pause:every=7s,for=2s". What has no name of
// its own belongs to the fault before it.
func ParseFaults(s string) ([]Fault, error) {
	var faults []Fault
	for part := range strings.SplitSeq(s, ",") {
		name, param, named := strings.Cut(part, ":")
		if !named {
			if !strings.Contains(part, "=") {
				return nil, fmt.Errorf("fault %q: needs every=, such as kill:every=5s", part)
			}
			if len(faults) == 0 {
				return nil, fmt.Errorf("fault %q: needs a name, such as kill:every=5s", part)
			}
			param = part
		} else {
			kind := FaultKind(name)
			if _, _, known := kind.lasts(); !known {
				return nil, fmt.Errorf("fault %q: must be kill, pause, partition, powerloss or slowdisk", name)
			}
			faults = append(faults, Fault{Kind: kind})
		}
		if err := faults[len(faults)-1].set(param); err != nil {
			return nil, err
		}
	}
	for i := range faults {
		if err := faults[i].complete(); err != nil {
			return nil, err
		}
	}
	return faults, nil
}

func (f *Fault) set(param string) error {
	key, value, _ := strings.Cut(param, "=")
	d, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("fault %s: %s=%q is not a duration such as 5s", f.Kind, key, value)
	}
	_, settable, _ := f.Kind.lasts()
	switch {
	case key == "every":
		f.Every = d
	case key == "for" && settable:
		f.For = d
	case key == "delay" && f.Kind == SlowDisk:
		f.Delay = d
	default:
		return fmt.Errorf("fault %s: unknown parameter %q", f.Kind, key)
	}
	if d <= 0 {
		return fmt.Errorf("fault %s: %s=%v must be more than 0", f.Kind, key, d)
	}
	return nil
}

func (f *Fault) complete() error {
	if f.Every == 0 {
		return fmt.Errorf("fault %s: needs every=, such as %s:every=5s", f.Kind, f.Kind)
	}
	if f.For == 0 {
		usual, _, _ := f.Kind.lasts()
		f.For = min(usual, f.Every/2)
	}
	if f.Kind == SlowDisk && f.Delay == 0 {
		f.Delay = defaultDelay
	}
	if f.For >= f.Every {
		return fmt.Errorf("fault %s: for= must be shorter than every=", f.Kind)
	}
	if f.Delay > time.Second {
		return fmt.Errorf("fault %s: delay=%v must be at most 1s", f.Kind, f.Delay)
	}
	return nil
}

// Has says whether one of the faults is of this kind.
func (o *Options) Has(k FaultKind) bool {
	for _, f := range o.Faults {
		if f.Kind == k {
			return true
		}
	}
	return false
}
