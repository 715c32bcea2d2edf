package cluster

import (
	"context"
	"fmt"
	"log/slog"

	"go.etcd.io/raft/v3"
)

// raftLogger passes on what raft says. Its Info is what happens all the time,
// and is Debug here. Its Fatal and Panic are assertions: they panic, and the
// worker stops the replica.
type raftLogger struct{ log *slog.Logger }

var _ raft.Logger = raftLogger{}

func (l raftLogger) write(level slog.Level, format string, v []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	msg := fmt.Sprint(v...)
	if format != "" {
		msg = fmt.Sprintf(format, v...)
	}
	l.log.Log(context.Background(), level, "raft", "says", msg)
}

func (l raftLogger) Debug(v ...any)                   { l.write(slog.LevelDebug, "", v) }
func (l raftLogger) Debugf(format string, v ...any)   { l.write(slog.LevelDebug, format, v) }
func (l raftLogger) Info(v ...any)                    { l.write(slog.LevelDebug, "", v) }
func (l raftLogger) Infof(format string, v ...any)    { l.write(slog.LevelDebug, format, v) }
func (l raftLogger) Warning(v ...any)                 { l.write(slog.LevelWarn, "", v) }
func (l raftLogger) Warningf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }
func (l raftLogger) Error(v ...any)                   { l.write(slog.LevelError, "", v) }
func (l raftLogger) Errorf(format string, v ...any)   { l.write(slog.LevelError, format, v) }
func (l raftLogger) Fatal(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
