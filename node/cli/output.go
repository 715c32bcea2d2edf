package cli

import (
	"io"
	"strings"
	"sync"
)

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu  sync.Mutex
	end []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = append(l.end, p[max(len(p)-mostError, 0):]...)
	if n := len(l.end); n > mostError {
		l.end = append(l.end[:0], l.end[n-mostError:]...)
	}
	return len(p), nil
}

// text is what was kept, short enough to go with the exit status.
func (l *lastBytes) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.end[max(len(l.end)-mostError/2, 0):]
	return strings.TrimSpace(strings.ToValidUTF8(string(end), "\uFFFD"))
}

// both writes to two; the second never fails.
type both struct{ a, b io.Writer }

func (w *both) Write(p []byte) (int, error) {
	_, _ = w.b.Write(p)
	return w.a.Write(p)
}
