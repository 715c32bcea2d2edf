package options

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// FaultKind names what is done to a node.
type FaultKind string

// The faults.
const (
	// Kill ends a node's process without warning and starts it again on the same data and addresses.
	Kill FaultKind = "kill"
	// Pause stops a node's process where it stands and lets it go on later.
	Pause FaultKind = "pause"
)

// Fault is something that happens to a node again and again while there is load.
type Fault struct {
	Kind FaultKind
	// Every is the time from one to the next; the first one comes after it, too.
	Every time.Duration
	// For is how long a pause lasts.
	For time.Duration
}

const defaultPause = time.Second

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
			if kind != Kill && kind != Pause {
				return nil, fmt.Errorf("fault %q: this version knows kill and pause", name)
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
	switch {
	case key == "every":
		f.Every = d
	case key == "for" && f.Kind == Pause:
		f.For = d
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
	if f.Kind == Pause && f.For == 0 {
		f.For = min(defaultPause, f.Every/2)
	}
	if f.For >= f.Every {
		return errors.New("fault pause: for= must be shorter than every=")
	}
	return nil
}
