// Package written keeps what tests have programs write, such as their log.
package written

import (
	"strings"
	"sync"
)

// Text is what was written to it. The zero value is ready, and its methods may be
// called from any goroutine.
type Text struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (t *Text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// String is all that was written so far.
func (t *Text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
