package actors

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/storage"
)

// refusalIn is the refusal that an error is; nil if it is none.
func refusalIn(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// plain is a packet without id or position.
func plain(repo, content string) []byte {
	return packet(wire.PacketFields{RepoID: repo, Content: []byte(content)})
}

// A packet on which the actor panics is refused at once, to be sent again; what
// came with it is answered too, and other repositories never notice.
func TestPanicIsARefusal(t *testing.T) {
	h := newHarness(t, nil)
	var bad atomic.Bool
	bad.Store(true)
	h.relay.onPacket = func(repo string, _ any) {
		if repo == "bad" && bad.Load() {
			panic("poisoned")
		}
	}
	got := h.publish(plain("bad", "1"), plain("good", "1"), plain("bad", "2"), plain("good", "2"))
	for i, want := range []string{CodeUnavailable, "OK", CodeUnavailable, "OK"} {
		if got[i].code() != want {
			t.Errorf("packet %d: %s (%v), want %s", i, got[i].code(), got[i].refusal, want)
		}
	}
	if got[0].refusal != nil && got[0].refusal.RetryAfter <= 0 {
		t.Error("the refusal names no delay")
	}
	await(t, "the panic in the log, with its stack", func() bool { // the answer comes first
		return strings.Contains(h.log.String(), "poisoned") && strings.Contains(h.log.String(), "goroutine ")
	})
	bad.Store(false)
	await(t, "a receipt after the restart", func() bool { return h.publish(plain("bad", "3"))[0].refusal == nil })
}

// A repository whose actor panics on every packet is parked, shown and refused;
// the others work on meanwhile, and Unpark gives it another chance.
func TestPoisonedRepositoryIsParked(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.ParkAfter = 3 })
	var healed atomic.Bool
	h.relay.onPacket = func(repo string, _ any) {
		if repo == "bad" && !healed.Load() {
			panic("poisoned")
		}
	}
	n := 0
	await(t, "the parking", func() bool {
		n++
		if a := h.publish(plain("bad", "x"), plain("good", fmt.Sprint(n))); a[1].refusal != nil || a[0].refusal == nil {
			t.Errorf("round %d: good %v, bad %v", n, a[1].refusal, a[0].refusal)
		}
		return h.relay.Parked("bad")
	})
	if h.relay.Parked("good") || len(h.relay.ParkedRepositories()) != 1 {
		t.Errorf("parked: %v", h.relay.ParkedRepositories())
	}
	if a := h.publish(plain("bad", "x"))[0]; a.refusal == nil || a.refusal.RetryAfter < time.Second {
		t.Errorf("a parked repository answers %+v", a)
	}
	healed.Store(true)
	if !h.relay.Unpark("bad") {
		t.Error("it was not parked")
	}
	await(t, "a receipt after Unpark", func() bool { return h.publish(plain("bad", "y"))[0].refusal == nil })
}

// Restarts are spaced by least·2ⁿ up to a limit, with jitter.
func TestBackoffGrows(t *testing.T) {
	const ms = time.Millisecond
	for i, want := range []time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms, 100 * ms, 100 * ms, 100 * ms} {
		least, limit := 10*time.Millisecond, 100*time.Millisecond
		low, high := backoff(i+1, least, limit, 0), backoff(i+1, least, limit, 1)
		if low != want*8/10 || high != want*12/10 {
			t.Errorf("failure %d: %v to %v, want %v ± 20 %%", i+1, low, high, want)
		}
	}
}

// Actors come and go under load: every packet is answered once and numbered once,
// in order, whichever incarnation took it.
func TestPassivationLosesNothing(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.MaxActors = 4 })
	const repos, each = 16, 60
	var senders sync.WaitGroup
	for r := range repos {
		senders.Go(func() {
			repo := fmt.Sprintf("r%d", r)
			for i := range each {
				for try := 0; ; try++ {
					sink := newSink(t)
					h.offer(sink, 0, position(repo, "p", 1, uint64(i+1), "x"))
					a := sink.await(0)
					if a.refusal == nil {
						if uint64(a.seq) != uint64(i+1) {
							t.Errorf("%s position %d got number %d", repo, i+1, a.seq)
						}
						break
					}
					if a.refusal.RetryAfter <= 0 {
						t.Errorf("%s: %v", repo, a.refusal)
						return
					}
				}
				h.relay.passivateOldest()
			}
		})
	}
	senders.Wait()
	if n := h.relay.incarnation.Load(); n <= repos {
		t.Errorf("%d incarnations of %d repositories: nothing was passivated", n, repos)
	}
	await(t, "the limit of live actors", func() bool {
		h.relay.passivateOldest()
		return h.relay.active.Load() <= 4
	})
}

// An incarnation has a name of its own: what is meant for one never reaches the next.
func TestIncarnationsHaveNamesOfTheirOwn(t *testing.T) {
	h := newHarness(t, nil)
	h.publish(plain("r", "1"))
	first := h.resident("r")
	first.askToGo()
	select {
	case <-first.done:
	case <-time.After(patience):
		t.Fatal("it did not go")
	}
	h.publish(plain("r", "2"))
	second := h.resident("r")
	if first.pid.Id == second.pid.Id {
		t.Fatalf("both are %s", first.pid.Id)
	}
	h.relay.root.Stop(first.pid) // too late: it must not hit the second
	if a := h.publish(plain("r", "3"))[0]; a.refusal != nil || a.seq != 3 {
		t.Fatalf("after a late stop: %+v", a)
	}
	if h.resident("r") != second {
		t.Error("the second incarnation was stopped in the first one's place")
	}
}

// When leadership is lost, what is in the log is unknown and what is not is
// refused; nothing waits for ever, and the next leadership goes on.
func TestLeadershipLost(t *testing.T) {
	h := newHarness(t, nil)
	g := h.partition("r").Group()
	h.proposer.hold(g, true)
	sink := newSink(t)
	h.offer(sink, 0, position("r", "p", 1, 1, "x"))
	await(t, "the proposal", func() bool { return h.proposer.waiting(g) == 1 })
	h.offer(sink, 1, position("r", "p", 1, 2, "y")) // gathers behind it
	await(t, "the second packet", func() bool { return h.partition("r").queued(h.resident("r")) == 1 })
	h.proposer.resign(g)
	if a := sink.await(0); a.code() != CodeUnknown || a.refusal.RetryAfter <= 0 {
		t.Errorf("in the log: %+v", a)
	}
	if a := sink.await(1); a.code() != CodeUnavailable && a.code() != CodeUnknown {
		t.Errorf("not in the log: %+v", a)
	}
	await(t, "the partition to follow", func() bool { _, ok := h.partition("r").Leading(); return !ok })
	if a := h.publish(plain("r", "z"))[0]; a.code() != CodeUnavailable {
		t.Errorf("without a leader: %+v", a)
	}
	h.proposer.hold(g, false)
	h.proposer.lead(g)
	h.awaitLeading()
	again := h.publish(position("r", "p", 1, 1, "x"), position("r", "p", 1, 2, "y"))
	if again[0].refusal != nil || again[0].seq != 1 || !again[0].duplicate || again[1].seq != 2 {
		t.Errorf("resent: %+v", again)
	}
}

func (f *fakeProposer) waiting(g storage.GroupID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.logs[g].waiting)
}

// After a refusal everything behind it is refused with what is expected.
func TestGapAfterARefusal(t *testing.T) {
	h := newHarness(t, nil)
	if a := h.publish(position("r", "p", 1, 1, "x"), position("r", "p", 1, 3, "z"), position("r", "p", 1, 4, "z")); a[0].refusal != nil ||
		a[1].code() != CodeGap || a[1].refusal.Expected != 2 || a[2].code() != CodeGap || a[2].refusal.Expected != 2 {
		t.Fatalf("1, 3, 4: %+v", a)
	}
	if a := h.publish(position("r", "p", 1, 2, "y"), position("r", "p", 1, 3, "z")); a[0].seq != 2 || a[1].seq != 3 {
		t.Fatalf("2, 3: %+v", a)
	}
}

// A full mailbox refuses at once, names a delay, and takes packets again.
func TestFullMailboxRefuses(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.MailboxPackets = 3 })
	block, entered := make(chan struct{}), make(chan struct{}, 16)
	h.relay.onPacket = func(repo string, _ any) {
		if repo == "slow" {
			entered <- struct{}{}
			<-block
		}
	}
	sink := newSink(t)
	h.offer(sink, 0, plain("slow", "1"))
	<-entered
	h.offer(sink, 1, plain("slow", "2"), plain("slow", "3"))
	h.offer(sink, 3, plain("slow", "4"))
	if a := sink.await(3); a.code() != CodeResourceExhausted || a.refusal.RetryAfter <= 0 {
		t.Errorf("the fourth of three: %+v", a)
	}
	if a := h.publish(plain("other", "1"))[0]; a.refusal != nil {
		t.Errorf("another repository: %+v", a)
	}
	close(block)
	for i := range uint64(3) {
		if a := sink.await(i); a.refusal != nil {
			t.Errorf("packet %d: %+v", i, a)
		}
	}
}

// One repository takes at most a quarter of what is free of the intake, so that
// a hot one leaves room for the others; one packet goes in in any case.
func TestIntakeIsShared(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.Limits.Content, c.Limits.FrameBytes = 64<<10, 128<<10
		c.IntakeBytes = 1 << 20
		c.EntryBytes = 32 << 10 // an entry takes one packet out of the intake
		c.MailboxBytes = 64 << 20
		c.MailboxPackets = 10_000
	})
	g := h.partition("hot").Group()
	h.proposer.hold(g, true)
	sink := newSink(t)
	content := string(make([]byte, 40<<10))
	for i := range uint64(20) {
		h.offer(sink, i, plain("hot", content))
	}
	refused := 0
	await(t, "refusals", func() bool {
		refused = 0
		for i := range uint64(20) {
			if a, ok := sink.answer(i); ok && a.refusal != nil {
				refused++
				if a.code() != CodeResourceExhausted || a.refusal.RetryAfter <= 0 {
					t.Errorf("packet %d: %+v", i, a)
				}
			}
		}
		return refused >= 12
	})
	for i := range 8 { // the others get in, one packet each
		repo := fmt.Sprintf("quiet-%d", i)
		other := newSink(t)
		h.offer(other, 0, plain(repo, content[:8<<10]))
		if h.partition(repo).Group() != g {
			if a := other.await(0); a.refusal != nil {
				t.Errorf("%s was refused: %v", repo, a.refusal)
			}
		} else if a, ok := other.answer(0); ok && a.refusal != nil {
			t.Errorf("%s was refused: %v", repo, a.refusal)
		}
	}
	h.proposer.hold(g, false)
	await(t, "all answers", func() bool { return sink.len() == 20 })
}
