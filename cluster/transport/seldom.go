package transport

import (
	"log/slog"
	"sync"
	"time"
)

// seldomEvery is the time between two lines about the same.
const seldomEvery = 10 * time.Second

// maxSeldom bounds the subjects that are told apart.
const maxSeldom = 256

// seldom logs what strangers can cause as often as they like.
type seldom struct {
	logger *slog.Logger
	mu     sync.Mutex
	last   map[string]said
}

type said struct {
	at      time.Time
	skipped int
}

// about returns a logger for a subject, which says nothing if there was
// something about it a moment ago.
func (s *seldom) about(subject string) *slog.Logger {
	skipped, ok := s.due(subject, time.Now())
	switch {
	case !ok:
		return slog.New(slog.DiscardHandler)
	case skipped > 0:
		return s.logger.With("skipped", skipped)
	default:
		return s.logger
	}
}

func (s *seldom) due(subject string, now time.Time) (skipped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, seen := s.last[subject]
	if seen && now.Sub(l.at) < seldomEvery {
		l.skipped++
		s.last[subject] = l
		return 0, false
	}
	if s.last == nil || len(s.last) >= maxSeldom {
		s.last = map[string]said{}
	}
	s.last[subject] = said{at: now}
	return l.skipped, true
}
