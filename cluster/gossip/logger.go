package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Of what memberlist logs, at most noteBurst lines of one level pass within
// notePeriod: whoever throws garbage at the port must not fill the disk.
const (
	noteBurst  = 20
	notePeriod = 10 * time.Second
)

// bridge takes memberlist's log lines. They carry their level in brackets, and
// are the only trace of what the library refuses: the counter lives of them.
type bridge struct {
	log     *slog.Logger
	refused func(reason string)

	mu      sync.Mutex // held while a line is logged, as log.Logger's own lock is
	ended   bool
	since   time.Time
	passed  map[slog.Level]int
	dropped int
}

func newBridge(l *slog.Logger, refused func(string)) *bridge {
	return &bridge{log: l, refused: refused, passed: map[slog.Level]int{}}
}

func (b *bridge) logger() *log.Logger { return log.New(b, "", 0) }

// end lets no line through any more: memberlist's timers outlive its Shutdown.
func (b *bridge) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}

// Write takes one line.
func (b *bridge) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return len(line), nil
	}
	level, text := splitLevel(strings.TrimSpace(string(line)))
	if reason := refusal(level, text); reason != "" {
		b.refused(reason)
	}
	if b.log.Enabled(context.Background(), level) && b.allow(level) {
		b.log.Log(context.Background(), level, "memberlist", "text", text)
	}
	return len(line), nil
}

// splitLevel takes the level off a line. memberlist's errors are warnings here:
// they are about other nodes, or about strangers.
func splitLevel(line string) (slog.Level, string) {
	tag, text, ok := strings.Cut(line, "] ")
	if !ok || !strings.HasPrefix(tag, "[") {
		return slog.LevelWarn, line
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	switch strings.TrimPrefix(tag, "[") {
	case "DEBUG":
		return slog.LevelDebug, text
	case "INFO":
		return slog.LevelInfo, text
	}
	return slog.LevelWarn, text
}

// refusal says why memberlist refused what the line tells of, or nothing. The
// texts are those of the version that go.mod pins; a test holds them.
func refusal(level slog.Level, text string) string {
	if level != slog.LevelWarn {
		return ""
	}
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("label"):
		return "label"
	case has("ecrypt"):
		return "key"
	case has("Refuting", "Conflicting", "ping failed", "Push/Pull with", "Was able to connect", "send"):
		return ""
	case has("decode", "receive", "msg type", "msgType", "checksum", "message type", "packet too short", "truncated", "read remote state", "protocol version", "Vsn", "too long", "handler queue full"):
		return "malformed"
	}
	return ""
}

func (b *bridge) allow(level slog.Level) bool {
	if level < slog.LevelInfo {
		return true // whoever asks for debug lines gets them all
	}
	if now := time.Now(); now.Sub(b.since) > notePeriod {
		if b.dropped > 0 {
			b.log.Warn("memberlist lines left out", "lines", b.dropped)
		}
		b.since, b.dropped = now, 0
		clear(b.passed)
	}
	if b.passed[level] >= noteBurst {
		b.dropped++
		return false
	}
	b.passed[level]++
	return true
}
