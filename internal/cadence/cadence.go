// Package cadence has the periodic loops of a process wake at the same moments. What
// an idle process costs is not what its loops do but how often it is woken for
// one of them: a dozen that wake together cost little more than one.
package cadence

import "time"

// Until is how long after now a loop is to wake that wakes about every period: at
// the next multiple of it since the Unix epoch. One that is less than a quarter of
// period away was meant already, and is passed over: a timer may be a little early.
// now should be time.Now().
func Until(now time.Time, period time.Duration) time.Duration {
	d := period - time.Duration(now.UnixNano()%int64(period))
	if d < period/4 {
		d += period
	}
	return d
}
