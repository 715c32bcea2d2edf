package server

import (
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// The bounds of a group's settings.
const (
	maxAttempts  = 1000
	maxBatch     = 1024
	maxBackoff   = 24 * time.Hour
	leastBackoff = time.Millisecond
	leastLease   = time.Second
	maxLease     = time.Hour
	leastResult  = time.Second
	maxResult    = 7 * 24 * time.Hour
)

// setGroup changes what s gives. The error names the field and what it may be.
func setGroup(c *repository.GroupConfig, s *waystationv1.GroupSettings, makes bool) error {
	if s == nil {
		s = &waystationv1.GroupSettings{}
	}
	x := setter{s: s}
	x.start(c, makes)
	x.number("max_attempts", s.MaxAttempts, maxAttempts, &c.MaxAttempts)
	x.number("max_batch", s.MaxBatch, maxBatch, &c.MaxBatch)
	x.duration("backoff_base", s.GetBackoffBase(), leastBackoff, maxBackoff, &c.BackoffBaseMs)
	x.duration("backoff_max", s.GetBackoffMax(), leastBackoff, maxBackoff, &c.BackoffMaxMs)
	x.duration("lease", s.GetLease(), leastLease, maxLease, &c.LeaseMs)
	x.policy(c)
	x.results(c)
	if x.err == nil && c.BackoffMaxMs < c.BackoffBaseMs {
		x.refuse("backoff_max", "must be at least backoff_base, which is %v", time.Duration(c.BackoffBaseMs)*time.Millisecond)
	}
	return x.err
}

// setter keeps the first thing that is wrong.
type setter struct {
	s   *waystationv1.GroupSettings
	err error
}

func (x *setter) refuse(field, format string, args ...any) {
	if x.err == nil {
		x.err = &actors.Refusal{Code: actors.CodeInvalidArgument, Field: field, Message: fmt.Sprintf(format, args...)}
	}
}

func (x *setter) start(c *repository.GroupConfig, makes bool) {
	if x.s.GetStart() == "" {
		return
	}
	for _, start := range []repository.Start{repository.StartEarliest, repository.StartLatest} {
		if start.String() != x.s.GetStart() {
			continue
		}
		if !makes && start != c.Start {
			x.refuse("start", "cannot be changed: make another group")
		}
		c.Start = start
		return
	}
	x.refuse("start", "must be earliest or latest")
}

func (x *setter) number(field string, v *uint32, most uint32, into *uint64) {
	switch {
	case v == nil:
	case *v < 1 || *v > most:
		x.refuse(field, "must be 1 to %d", most)
	default:
		*into = uint64(*v)
	}
}

func (x *setter) duration(field string, v *durationpb.Duration, least, most time.Duration, into *uint64) {
	if v == nil {
		return
	}
	if d := v.AsDuration(); v.CheckValid() != nil || d < least || d > most {
		x.refuse(field, "must be %v to %v", least, most)
		return
	}
	*into = ms(v.AsDuration())
}

func (x *setter) policy(c *repository.GroupConfig) {
	if x.s.GetOrderPolicy() == "" {
		return
	}
	for _, p := range []repository.OrderPolicy{repository.OrderSkip, repository.OrderBlock, repository.OrderPark} {
		if p.String() == x.s.GetOrderPolicy() {
			c.OrderPolicy = p
			return
		}
	}
	x.refuse("order_policy", "must be skip, block or park")
}

// results sets how long results are kept. A kind whose time is 0 has that of all others.
func (x *setter) results(c *repository.GroupConfig) {
	x.duration("result_ttl", x.s.GetResultTtl(), leastResult, maxResult, &c.ResultTTLMs)
	for kind, ttl := range x.s.GetKindResultTtl() {
		var keep uint64
		if ttl.GetSeconds() != 0 || ttl.GetNanos() != 0 {
			x.duration("kind_result_ttl", ttl, leastResult, maxResult, &keep)
		}
		if limit := wire.DefaultLimits().Kind; kind == "" || len(kind) > limit || !utf8.ValidString(kind) {
			x.refuse("kind_result_ttl", "%.80q: a kind is 1 to %d bytes of UTF-8", kind, limit)
		}
		c.SetKindTTL(kind, keep)
	}
	if len(c.KindTTLs) > repository.MaxKindTTLs {
		x.refuse("kind_result_ttl", "names %d kinds: at most %d may have a time of their own", len(c.KindTTLs), repository.MaxKindTTLs)
	}
}
