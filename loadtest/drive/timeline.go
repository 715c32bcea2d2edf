package drive

import (
	"sync/atomic"
	"time"
)

// timeline counts events in steps of time since the run began. Safe for several
// goroutines.
type timeline struct{ steps []atomic.Int64 }

const (
	// timeStep is a timeline's resolution, rateSteps how many steps a speed is taken of.
	timeStep  = 50 * time.Millisecond
	rateSteps = 10
)

// newTimeline returns one that lasts so long. What comes later is not counted.
func newTimeline(lasts time.Duration) *timeline {
	return &timeline{steps: make([]atomic.Int64, int(lasts/timeStep)+rateSteps)}
}

func (t *timeline) note(at time.Duration) {
	if i := int(at / timeStep); i >= 0 && i < len(t.steps) {
		t.steps[i].Add(1)
	}
}

// rate is the speed, in events per second, over the rateSteps from i on.
func (t *timeline) rate(i int) float64 {
	var n int64
	for k := i; k < i+rateSteps && k < len(t.steps); k++ {
		n += t.steps[k].Load()
	}
	return float64(n) / (rateSteps * timeStep).Seconds()
}

// back returns how long after from the speed was least again, having fallen below it
// before the time until; 0 if it had not. It is false when it was not by end.
func (t *timeline) back(from, until, end time.Duration, least float64) (time.Duration, bool) {
	first, last := int((from+timeStep-1)/timeStep), int(end/timeStep)-rateSteps
	fallen := false
	for i := first; i <= last; i++ {
		switch below := t.rate(i) < least; {
		case below && time.Duration(i)*timeStep < until:
			fallen = true
		case fallen && !below:
			return time.Duration(i)*timeStep - from, true
		}
	}
	if fallen {
		return end - from, false
	}
	return 0, true
}

// mean is the speed, in events per second, from one time to another.
func (t *timeline) mean(from, to time.Duration) float64 {
	first, last := int((from+timeStep-1)/timeStep), int(to/timeStep)
	var n int64
	for i := first; i < last && i < len(t.steps); i++ {
		n += t.steps[i].Load()
	}
	return float64(n) / max((time.Duration(last-first)*timeStep).Seconds(), timeStep.Seconds())
}

// points are the speed over time, in seconds, up to end.
func (t *timeline) points(end time.Duration) (points [][2]float64) {
	for i := 0; i+rateSteps <= int(end/timeStep); i += rateSteps / 2 {
		at := time.Duration(i)*timeStep + rateSteps*timeStep/2
		points = append(points, [2]float64{at.Seconds(), t.rate(i)})
	}
	return points
}
