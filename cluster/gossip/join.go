package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// joinTimeout bounds one try to join all of a list.
const joinTimeout = 30 * time.Second

// Join looks the addresses up (host, or host:port) and exchanges members with
// each one. It returns how many were reached; the error is nil if one was, and
// else says of each address why not: ErrLabel, ErrKey, ErrForeign, ErrCopied,
// ErrSelf (only where no address is another node), or the network's error.
func (g *Gossip) Join(ctx context.Context, addresses []string) (int, error) {
	if len(addresses) == 0 {
		return 0, errors.New("join: no address")
	}
	var errs []error
	reached, seen := 0, map[netip.AddrPort]bool{}
	for _, name := range addresses {
		found, err := g.lookup(ctx, name)
		if err != nil {
			g.metrics.joined(err)
			errs = append(errs, fmt.Errorf("join %s: %w", name, err))
		}
		for _, at := range found {
			if seen[at] {
				continue
			}
			seen[at] = true
			err := g.joinOne(ctx, at)
			g.metrics.joined(err)
			if err != nil {
				errs = append(errs, fmt.Errorf("join %s: %w", label(name, at), err))
				continue
			}
			reached++
		}
	}
	if reached > 0 {
		return reached, nil
	}
	return 0, worst(errs)
}

// label names an address as the user gave it, with what it was looked up to.
func label(name string, at netip.AddrPort) string {
	if at.String() == name {
		return name
	}
	return fmt.Sprintf("%s (%s)", name, at)
}

// worst leaves out that an address was this node, unless nothing else is known:
// a list that all nodes share names each of them.
func worst(errs []error) error {
	others := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, ErrSelf) })
	if len(others) == 0 {
		return errors.Join(errs...)
	}
	return errors.Join(others...)
}

func (g *Gossip) lookup(ctx context.Context, name string) ([]netip.AddrPort, error) {
	host, port, err := splitPort(name)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	found, err := g.config.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("look up %s: no address", host)
	}
	out := make([]netip.AddrPort, len(found))
	for i, ip := range found {
		out[i] = netip.AddrPortFrom(ip.Unmap(), port)
	}
	return out, nil
}

func splitPort(name string) (string, uint16, error) {
	if _, err := netip.ParseAddr(name); err == nil {
		return name, DefaultPort, nil
	}
	host, text, err := net.SplitHostPort(name)
	if err != nil {
		var bad *net.AddrError
		if errors.As(err, &bad) && bad.Err == "missing port in address" && name != "" {
			return name, DefaultPort, nil
		}
		return "", 0, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("port %q: want 1 to 65535", text)
	}
	return host, uint16(port), nil
}

func (g *Gossip) joinOne(ctx context.Context, at netip.AddrPort) error {
	if err := g.check(ctx, at); err != nil {
		return err
	}
	done := make(chan error, 1)
	g.life.Lock()
	if g.stopped || g.left {
		g.life.Unlock()
		return ErrStopped
	}
	g.tasks.Go(func() {
		_, err := g.list.Join([]string{at.String()})
		done <- err
	})
	g.life.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check asks who is at an address, and whether the two sides can talk.
func (g *Gossip) check(ctx context.Context, at netip.AddrPort) error {
	if at == g.t.advertise {
		return ErrSelf
	}
	n, err := g.nonce()
	if err != nil {
		return err
	}
	there, err := g.t.ask(ctx, at.String(), n)
	if err != nil {
		return err
	}
	return compare(g.hello(n), there)
}

func (g *Gossip) nonce() (n nonce, err error) {
	if err = g.random.fill(n[:]); err != nil {
		err = fmt.Errorf("draw nonce: %w", err)
	}
	return n, err
}

// compare says why here cannot talk with there.
func compare(here, there hello) error {
	switch {
	case here.node == there.node && here.instance == there.instance:
		return ErrSelf
	case here.label != there.label:
		return fmt.Errorf("%w: that node belongs to %q and this one to %q (--cluster-name)", ErrLabel, there.label, here.label)
	case here.node == there.node:
		return fmt.Errorf("%w: both have the node id %s; give one of them an empty --data-dir", ErrCopied, here.node)
	case len(here.keys) == 0 && len(there.keys) > 0:
		return fmt.Errorf("%w: that node encrypts and this one has no key file", ErrKey)
	case len(here.keys) > 0 && len(there.keys) == 0:
		return fmt.Errorf("%w: this node encrypts and that one has no key file", ErrKey)
	case len(here.keys) > 0 && !slices.Contains(there.keys, here.keys[0]):
		return fmt.Errorf("%w: the key that this node encrypts with (the first of its file) is not among that node's", ErrKey)
	case len(here.keys) > 0 && !slices.Contains(here.keys, there.keys[0]):
		return fmt.Errorf("%w: the key that that node encrypts with is not in this node's file", ErrKey)
	}
	return nil
}

// KeepJoining goes on joining the addresses, until another member is seen and
// again whenever there is none, and returns at once. Names are looked up afresh
// each time. A later call replaces the addresses; an empty list ends it.
func (g *Gossip) KeepJoining(addresses []string) {
	list := slices.Clone(addresses)
	g.KeepJoiningFrom(func(context.Context) []string { return list })
}

// KeepJoiningFrom is KeepJoining with addresses that source tells at each try,
// such as those of the nodes that run on this machine now. It is called from a
// goroutine of the package and returns when its context ends; with an empty list
// nothing is tried this time.
func (g *Gossip) KeepJoiningFrom(source func(context.Context) []string) {
	g.seeds.Store(&source)
	g.wake()
}

// wake makes the loop look at once.
func (g *Gossip) wake() {
	select {
	case g.joinNow <- struct{}{}:
	default:
	}
}

// keeping is the loop that joins: the seeds while alone, those who hold an
// earlier life of this node to be alive, and now and then where a member was that
// failed.
func (g *Gossip) keeping() {
	p := g.config.pace()
	changes := g.Subscribe()
	defer changes.Close()
	timer := time.NewTimer(g.random.jitter(p.lost))
	defer timer.Stop()
	delay, said, alone := p.first, "", true
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-g.joinNow:
			delay, said = p.first, ""
		case <-changes.C:
			now := g.members.others() == 0
			if now == alone {
				continue
			}
			if alone = now; alone {
				timer.Reset(g.random.jitter(p.first))
			}
			continue
		case <-timer.C:
		}
		next := p.lost
		source := g.seeds.Load()
		switch {
		case g.members.others() > 0 && g.insists.Load() > 0:
			g.insists.Add(-1)
			g.push()
			next = p.insist
		case g.members.others() > 0 || source == nil:
			delay, said = p.first, ""
			g.seek()
		default:
			said = g.tryJoin(*source, said)
			next, delay = delay, min(2*delay, p.most)
		}
		timer.Reset(g.random.jitter(next))
	}
}

// tryJoin logs a failure when it is another one than the last, and returns it.
func (g *Gossip) tryJoin(source func(context.Context) []string, said string) string {
	ctx, cancel := context.WithTimeout(g.ctx, joinTimeout)
	defer cancel()
	seeds := source(ctx)
	if len(seeds) == 0 {
		return said
	}
	n, err := g.Join(ctx, seeds)
	switch {
	case err == nil:
		g.log.Info("joined gossip", "addresses", seeds, "reached", n)
		return ""
	case g.ctx.Err() != nil:
		return said
	case err.Error() != said:
		g.log.Warn("no node was reached; trying on", "error", err)
	}
	return err.Error()
}

// seek tries where a member was that failed.
func (g *Gossip) seek() {
	at, ok := g.lost.pick(g.random.uint64())
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, joinTimeout)
	defer cancel()
	if err := g.joinOne(ctx, at); err != nil {
		g.log.Debug("a failed member is still away", "address", at, "error", err)
	}
}
