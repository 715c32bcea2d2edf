package copies

import (
	"context"
	"time"
)

// pacer holds a reader to a rate. One goroutine at a time.
type pacer struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	rate  int             // bytes a second
	begin time.Time
	done  int64
	// failed is why a scan was ended early.
	failed error
}

func newPacer(ctx context.Context, rate int) *pacer {
	return &pacer{ctx: ctx, rate: rate, begin: time.Now()}
}

// pacerStep is what is read between two looks at the clock, in bytes.
const pacerStep = 1 << 20

// pace counts bytes, and blocks if there were too many; it ends with ctx.
func (p *pacer) pace(bytes int) error {
	before := p.done / pacerStep
	p.done += int64(bytes)
	if p.done/pacerStep == before {
		return nil
	}
	ahead := time.Duration(float64(p.done)/float64(p.rate)*float64(time.Second)) - time.Since(p.begin)
	if ahead <= 0 {
		return p.ctx.Err()
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}
