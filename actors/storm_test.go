package actors

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// sender is a client that sends one producer's packets to one repository, several
// at a time, and goes back to the first that has no receipt after any refusal.
type sender struct {
	h        *harness
	repo     string
	producer string
	total    uint64
	receipts map[uint64]repository.Seq // by position
	refused  map[string]int
}

func (s *sender) run(t *testing.T) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(len(s.repo)), uint64(len(s.producer))))
	low := uint64(1) // the first position without a receipt
	for low <= s.total {
		// Two frames at once, so that one is on its way while the other is refused.
		sink, first := newSink(t), low
		n := uint64(0)
		for range 2 {
			var raws [][]byte
			for range 1 + rng.IntN(6) {
				if first+n+uint64(len(raws)) <= s.total {
					raws = append(raws, position(s.repo, s.producer, 1, first+n+uint64(len(raws)), "x"))
				}
			}
			s.h.offer(sink, n, raws...)
			n += uint64(len(raws))
		}
		for i := range n {
			s.take(t, first+i, low, sink.await(i))
		}
		for s.receipts[low] != 0 {
			low++
		}
	}
}

// take notes one answer and holds it against the earlier ones.
func (s *sender) take(t *testing.T, position, low uint64, a answered) {
	t.Helper()
	if a.refusal != nil {
		s.refused[a.refusal.Code]++
		switch {
		case a.refusal.Code == CodeGap:
		case a.refusal.Code == CodeUnknownProducer && low == 1: // its first was refused
		case a.refusal.Retriable():
		default:
			t.Errorf("%s %s/%d: refused for good: %v", s.repo, s.producer, position, a.refusal)
		}
		return
	}
	if seq, ok := s.receipts[position]; ok && seq != a.seq {
		t.Errorf("%s %s/%d: number %d, then %d", s.repo, s.producer, position, seq, a.seq)
	}
	s.receipts[position] = a.seq
}

// Under panics, lost leaderships, dropped proposals, passivation and refusals for
// load, all at once: every packet is answered once, in the end each has one number,
// in the order sent, and nothing is stored twice.
func TestStorm(t *testing.T) {
	h := newHarness(t, func(c *Config) {
		c.MaxActors, c.MailboxPackets, c.InFlight, c.ParkAfter = 4, 8, 8, 1<<30
	})
	var calm atomic.Bool
	var panics atomic.Int64
	h.relay.onPacket = func(string, any) {
		if !calm.Load() && rand.IntN(200) == 0 {
			panics.Add(1)
			panic("storm")
		}
	}
	const repos, producers, each = 6, 2, 400
	var senders, weather sync.WaitGroup
	var all []*sender
	for r := range repos {
		for p := range producers {
			s := &sender{
				h: h, repo: fmt.Sprint("repository-", r), producer: fmt.Sprint("producer-", p), total: each,
				receipts: map[uint64]repository.Seq{}, refused: map[string]int{},
			}
			all = append(all, s)
			senders.Go(func() { s.run(t) })
		}
	}
	changes := 0
	var done atomic.Bool
	weather.Go(func() {
		for i := 0; !done.Load(); i++ {
			g := h.relay.Partition(repository.PartitionID(i % 2)).Group()
			if i%4 < 2 && changes < 40 {
				changes++
				h.proposer.hold(g, true)
				await(t, "an entry to lose", func() bool { return done.Load() || h.proposer.waiting(g) > 0 })
				h.proposer.resign(g)
				h.proposer.hold(g, false)
				h.proposer.lead(g)
				h.awaitLeading()
			}
			h.proposer.mu.Lock()
			h.proposer.drop = rand.IntN(2)
			h.proposer.mu.Unlock()
			h.relay.passivateOldest()
		}
	})
	senders.Wait()
	done.Store(true)
	weather.Wait()
	calm.Store(true)
	check(t, h, all, repos, producers*each)
	refused := map[string]int{}
	for _, s := range all {
		for code, n := range s.refused {
			refused[code] += n
		}
	}
	for _, code := range []string{CodeUnknown, CodeUnavailable, CodeGap} {
		if refused[code] == 0 {
			t.Errorf("nothing was refused as %s: the storm was too weak: %v", code, refused)
		}
	}
	if panics.Load() == 0 || changes == 0 {
		t.Errorf("%d panics, %d changes of leadership: the storm was too weak", panics.Load(), changes)
	}
}

// check holds what senders were told against what is stored.
func check(t *testing.T, h *harness, all []*sender, repos int, each uint64) {
	t.Helper()
	taken := map[string]string{}
	for _, s := range all {
		for position := uint64(1); position <= s.total; position++ {
			seq := s.receipts[position]
			if position > 1 && seq <= s.receipts[position-1] {
				t.Errorf("%s %s/%d got %d, the one before %d", s.repo, s.producer, position, seq, s.receipts[position-1])
			}
			key, who := fmt.Sprint(s.repo, " ", seq), fmt.Sprint(s.producer, "/", position)
			if other, ok := taken[key]; ok {
				t.Errorf("%s was given to %s and to %s", key, other, who)
			}
			taken[key] = who
		}
	}
	for r := range repos {
		repo := fmt.Sprint("repository-", r)
		_ = h.partition(repo).View(func(m *repository.Machine) error {
			info, _, err := m.Repo([]byte(repo))
			if err != nil || uint64(info.Head) != each || info.Backlog != each {
				t.Errorf("%s: %d numbers, %d packets, want %d: %v", repo, info.Head, info.Backlog, each, err)
			}
			return nil
		})
	}
}

// Frames of every kind go back to their owner once, whatever becomes of them.
func TestFramesAreReleasedOnce(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.MailboxPackets = 2 })
	h.relay.onPacket = func(_ string, p any) {
		if string(p.(*wire.Packet).Content) == "poison" {
			panic("poisoned")
		}
	}
	for i, raws := range [][][]byte{
		{},
		{plain("r", "x")},
		{plain("", "bad")},
		{plain("r", "poison"), plain("r", "poison"), plain("s", "x")},
		{plain("r", "1"), plain("r", "2"), plain("r", "3"), plain("s", "x"), plain("", "bad")},
		{position("r", "p", 1, 9, "gap"), packet(wire.PacketFields{RepoID: "r", PacketID: "i"}), packet(wire.PacketFields{RepoID: "r", PacketID: "i"})},
	} {
		sink := newSink(t)
		released := h.offer(sink, 0, raws...)
		await(t, fmt.Sprint("answers to frame ", i), func() bool { return sink.len() == len(raws) })
		await(t, fmt.Sprint("release of frame ", i), released)
	}
}
