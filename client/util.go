package client

import (
	"errors"
	"math"
	"time"
)

func millis(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

func clampU32(n int) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }

func asError(err error, e **Error) bool { return errors.As(err, e) }
