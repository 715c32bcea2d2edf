package drive

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// outages measures, for each fault, how long it takes until every partition had a
// receipt again for a packet that was sent after it struck.
type outages struct {
	// of is each repository's partition, by index, from 0 to partitions-1. Only
	// those that have a repository count.
	of         []int32
	partitions int
	// say is told what happens; it must not block.
	say func(at time.Duration, what string)

	// waiting is how many have not ended: the receipts' path looks at no more, as a rule.
	waiting atomic.Int32

	mu   sync.Mutex
	open []*outage
	all  []*outage
	// striking is how many faults are not over.
	striking int
}

// outage is one fault and what followed it.
type outage struct {
	kind, what string
	at         time.Duration
	// missing are the partitions without a receipt, left how many.
	missing []bool
	left    int
	took    time.Duration
	// alone: no other fault was there while it lasted and its partitions came back.
	alone bool
	done  bool
}

// newOutages takes each repository's partition; nil when it is not known: then
// all are taken for one.
func newOutages(repos int, partitionOf []int, say func(time.Duration, string)) *outages {
	o := &outages{of: make([]int32, repos), partitions: 1, say: say}
	if partitionOf == nil {
		return o
	}
	dense := map[int]int32{}
	for r, p := range partitionOf {
		at, known := dense[p]
		if !known {
			at = int32(len(dense))
			dense[p] = at
		}
		o.of[r] = at
	}
	o.partitions = len(dense)
	return o
}

// strike notes a fault, and returns what is to be called when it is over.
func (o *outages) strike(kind, what string, at time.Duration) (over func()) {
	x := &outage{kind: kind, what: what, at: at, missing: make([]bool, o.partitions), left: o.partitions}
	for i := range x.missing {
		x.missing[i] = true
	}
	o.mu.Lock()
	x.alone = o.striking == 0 && len(o.open) == 0
	for _, other := range o.open {
		other.alone = false
	}
	o.striking++
	o.open = append(o.open, x)
	o.all = append(o.all, x)
	o.waiting.Add(1)
	o.mu.Unlock()
	o.say(at, what)
	return func() {
		o.mu.Lock()
		o.striking--
		o.mu.Unlock()
	}
}

// receipt notes that a packet of a repository, sent at the given time, has its receipt.
func (o *outages) receipt(repo int, sent, now time.Duration) {
	if o == nil || o.waiting.Load() == 0 {
		return
	}
	p := o.of[repo]
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = slices.DeleteFunc(o.open, func(x *outage) bool {
		if sent < x.at || !x.missing[p] {
			return false
		}
		x.missing[p] = false
		if x.left--; x.left > 0 {
			return false
		}
		x.took, x.done = now-x.at, true
		o.waiting.Add(-1)
		o.say(now, fmt.Sprintf("%s receipts again %v after: %s", o.whose(), x.took.Round(time.Millisecond), x.what))
		return true
	})
}

func (o *outages) whose() string {
	if o.partitions == 1 {
		return "there are"
	}
	return fmt.Sprintf("all %d partitions have", o.partitions)
}

// count says how many faults there were, by kind, in the order of their first.
func (o *outages) count() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var parts []string
	for _, k := range o.kinds() {
		parts = append(parts, fmt.Sprintf("%s %d", k, len(o.ofKind(k))))
	}
	return strings.Join(parts, ", ")
}

func (o *outages) kinds() (kinds []string) {
	for _, x := range o.all {
		if !slices.Contains(kinds, x.kind) {
			kinds = append(kinds, x.kind)
		}
	}
	return kinds
}

func (o *outages) ofKind(kind string) (some []*outage) {
	for _, x := range o.all {
		if x.kind == kind {
			some = append(some, x)
		}
	}
	return some
}

// summary is a line for each kind of fault: how long until every partition had a
// receipt again.
func (o *outages) summary() (lines []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range o.kinds() {
		lines = append(lines, summarize(k, o.ofKind(k)))
	}
	return lines
}

func summarize(kind string, all []*outage) string {
	var every, alone []time.Duration
	for _, x := range all {
		if x.done {
			every = append(every, x.took)
			if x.alone {
				alone = append(alone, x.took)
			}
		}
	}
	line := fmt.Sprintf("%d × %s", len(all), kind)
	if len(every) == 0 {
		return line + ": the load ended before every partition had a receipt again"
	}
	line += fmt.Sprintf(": every partition has receipts again after %s", spread(every))
	if len(alone) > 0 && len(alone) < len(every) {
		line += fmt.Sprintf("; %d of them with no other fault at the time: %s", len(alone), spread(alone))
	}
	if open := len(all) - len(every); open > 0 {
		line += fmt.Sprintf("; the load ended before that after %d", open)
	}
	return line
}

// spread is the median and the maximum.
func spread(d []time.Duration) string {
	slices.Sort(d)
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("%v in the median, %v at most", ms(d[(len(d)-1)/2]), ms(d[len(d)-1]))
}
