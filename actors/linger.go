package actors

import "time"

// linger decides whether a nearly idle partition waits for company before it
// proposes. Waiting pays only if somebody comes; so it is tried, and given up for
// longer and longer when nobody did.
type linger struct {
	most  time.Duration // 0: never
	held  int           // packets that waited when the last wait began; 0: none does
	skip  int           // entries to propose at once before the next try
	tries int           // fruitless waits in a row
}

// fewPackets is what makes an entry worth its round without waiting.
const fewPackets = 8

// ask answers how long to wait with so many packets queued; 0: propose now. urgent
// says that something must not wait, or that packets gathered behind an entry
// anyway.
func (l *linger) ask(queued int, urgent bool) time.Duration {
	if l.held > 0 {
		if queued > l.held {
			l.tries = 0
		} else {
			l.tries = min(l.tries+1, 10)
			l.skip = 1 << l.tries
		}
		l.held = 0
		return 0
	}
	switch {
	case l.most == 0 || urgent || queued >= fewPackets:
		return 0
	case l.skip > 0:
		l.skip--
		return 0
	}
	l.held = queued
	return l.most
}
