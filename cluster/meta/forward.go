package meta

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waystation/waystation/cluster"
)

// Who leads may be unknown for an election: tries come faster first.
const (
	firstPause = 20 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// elsewhere has the node that leads carry cmd out. Unless done, it is to be
// tried again, here if this node leads by then.
func (c *Calls) elsewhere(ctx context.Context, cmd Command, changed <-chan struct{}, pause *time.Duration) (r Result, done bool, err error) {
	if c.forward == nil {
		return Result{}, false, await(ctx, changed)
	}
	b, err := c.forward.Forward(ctx, cmd.kind(), cmd.append(nil))
	if err == nil {
		if r, err = parseResult(b); err != nil {
			return Result{}, false, fmt.Errorf("read forwarded result: %w", err)
		}
		return r, true, nil
	}
	timer := time.NewTimer(*pause)
	defer timer.Stop()
	*pause = min(2**pause, maxPause)
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return Result{}, false, fmt.Errorf("forward to meta's leader (%w): %w", err, ctx.Err())
	}
	return Result{}, false, nil
}

// HandleForwarded carries out a command that another node forwards, and returns
// the encoded result: a refusal is one too. It does not wait to lead and never
// forwards. Any error, cluster.ErrNotLeader among them, says that the outcome
// is not known or that there is none; the other node tries again. body is not
// kept. vouch may refuse what a command says of a node: itself says that the node
// sends it, and else one that it asked to be taken in by.
func (c *Calls) HandleForwarded(ctx context.Context, kind uint8, body []byte, vouch func(n Node, itself bool) error) ([]byte, error) {
	cmd, refusal := readCommand(kind, body)
	if cmd == nil {
		return refusal, nil
	}
	if err := present(cmd, vouch); err != nil {
		r := Result{Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
		return r.append(nil), nil
	}
	term, _ := c.store.Leading()
	if term == 0 {
		return nil, fmt.Errorf("forwarded command %d: %w", kind, cluster.ErrNotLeader)
	}
	r, err := c.propose(ctx, term, cmd)
	if err != nil {
		return nil, fmt.Errorf("forwarded command %d: %w", kind, err)
	}
	if errors.Is(r.Err, ErrVoid) {
		return nil, fmt.Errorf("forwarded command %d: %w", kind, r.Err)
	}
	return r.append(nil), nil
}

// present has vouch judge the node that a command speaks of, if it does.
func present(cmd Command, vouch func(n Node, itself bool) error) error {
	switch c := cmd.(type) {
	case *JoinNode:
		return vouch(c.Node, false)
	case *StartNode:
		return vouch(c.Node, true)
	}
	return nil
}

// readCommand reads and checks a command; without one there is a refusal, which
// is a result.
func readCommand(kind uint8, body []byte) (cmd Command, refusal []byte) {
	cmd, err := decodeCommand(kind, body)
	if err == nil {
		err = cmd.validate()
	}
	if err != nil {
		r := Result{Err: err}
		return nil, r.append(nil)
	}
	return cmd, nil
}
