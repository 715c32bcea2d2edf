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

// back returns how long after from the last time began that the speed was below
// least, up to end; 0 if it never was. It is false when it still was at the end.
func (t *timeline) back(from, end time.Duration, least float64) (time.Duration, bool) {
	first, last := int((from+timeStep-1)/timeStep), int(end/timeStep)-rateSteps
	for i := last; i >= first; i-- {
		if t.rate(i) < least {
			return time.Duration(i+1)*timeStep - from, i < last
		}
	}
	return 0, true
}

// points are the speed over time, in seconds, up to end.
func (t *timeline) points(end time.Duration) (points [][2]float64) {
	for i := 0; i+rateSteps <= int(end/timeStep); i += rateSteps / 2 {
		at := time.Duration(i)*timeStep + rateSteps*timeStep/2
		points = append(points, [2]float64{at.Seconds(), t.rate(i)})
	}
	return points
}
