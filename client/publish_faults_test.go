package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/waystation/waystation/client/internal/fakerelay"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// load publishes n packets to each of some repositories and returns what became
// of them, by content.
func load(t *testing.T, c *Client, repos, n int) map[string]error {
	t.Helper()
	var mu sync.Mutex
	outcomes := make(map[string]error)
	for i := range n {
		for k := range repos {
			name := fmt.Sprintf("repo-%d/%d", k, i+1)
			err := c.PublishAsync(within(t), &Packet{RepoID: fmt.Sprintf("repo-%d", k), Content: []byte(name)}, func(_ Receipt, err error) {
				mu.Lock()
				defer mu.Unlock()
				if _, twice := outcomes[name]; twice {
					t.Errorf("%s: a second callback", name)
				}
				outcomes[name] = err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(outcomes) != n*repos {
		t.Errorf("%d callbacks after the flush, want %d", len(outcomes), n*repos)
	}
	return outcomes
}

// contents returns what a repository stored, without its name.
func contents(r *fakerelay.Relay, repo string) []string {
	var s []string
	for _, p := range r.Packets(repo) {
		s = append(s, strings.TrimPrefix(string(p.Packet().GetContent()), repo+"/"))
	}
	return s
}

func numbers(from, to int) []string {
	var s []string
	for i := from; i <= to; i++ {
		s = append(s, fmt.Sprint(i))
	}
	return s
}

func TestPublishInOrderUnderFaults(t *testing.T) {
	busy := &wire.ResultView{Code: CodeResourceExhausted, RetryAfterMs: 1}
	cutAfter := func(every int) func(int) error {
		return func(frame int) error {
			if frame%every == 0 {
				return errors.New("lost")
			}
			return nil
		}
	}
	for name, set := range map[string]func(*fakerelay.Relay, *rand.Rand){
		"refused for load": func(r *fakerelay.Relay, rng *rand.Rand) {
			r.OnPacket = func(*wire.Packet) *wire.ResultView { return pick(rng, 50, busy) }
		},
		"outcome unknown": func(r *fakerelay.Relay, rng *rand.Rand) {
			r.OnPacket = func(*wire.Packet) *wire.ResultView {
				if v := pick(rng, 100, &wire.ResultView{Code: CodeUnknown}); v != nil {
					return v
				}
				return pick(rng, 100, &wire.ResultView{Code: "ACCEPT_UNKNOWN"})
			}
		},
		"lost before acceptance": func(r *fakerelay.Relay, _ *rand.Rand) { r.OnFrame = cutAfter(7) },
		"lost after acceptance":  func(r *fakerelay.Relay, _ *rand.Rand) { r.OnAnswer = cutAfter(7) },
		"all of it": func(r *fakerelay.Relay, rng *rand.Rand) {
			r.OnPacket = func(*wire.Packet) *wire.ResultView { return pick(rng, 100, busy) }
			r.OnFrame, r.OnAnswer = cutAfter(13), cutAfter(7)
		},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			r := relay(t, func(r *fakerelay.Relay) { set(r, rng) })
			c := dial(t, r, WithMaxFrame(32, 1<<20), WithWindow(512), WithConnections(1))
			for packet, err := range load(t, c, 5, 400) {
				if err != nil {
					t.Errorf("%s: %v", packet, err)
				}
			}
			for k := range 5 {
				repo := fmt.Sprintf("repo-%d", k)
				if got := contents(r, repo); !slices.Equal(got, numbers(1, 400)) {
					t.Errorf("%s: stored %v", repo, got)
				}
			}
		})
	}
}

func pick(rng *rand.Rand, oneIn int, v *wire.ResultView) *wire.ResultView {
	if rng.IntN(oneIn) == 0 {
		return v
	}
	return nil
}

func TestPublishGoesOnBehindARefusalForGood(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(p *wire.Packet) *wire.ResultView {
			if strings.HasSuffix(string(p.Content), "7") {
				return &wire.ResultView{Code: CodeInvalidArgument, Field: "kind", Message: "not allowed here"}
			}
			return nil
		}
	})
	c := dial(t, r)
	refused := 0
	for packet, err := range load(t, c, 2, 100) {
		if strings.HasSuffix(packet, "7") != (ErrorCode(err) == CodeInvalidArgument) {
			t.Errorf("%s: %v", packet, err)
		}
		if err != nil {
			refused++
		}
	}
	if refused != 20 {
		t.Errorf("%d packets refused, want 20", refused)
	}
	want := slices.DeleteFunc(numbers(1, 100), func(s string) bool { return strings.HasSuffix(s, "7") })
	if got := contents(r, "repo-0"); !slices.Equal(got, want) {
		t.Errorf("stored %v", got)
	}
}

func TestPublishUnknownProducer(t *testing.T) {
	r := relay(t, nil)
	c := dial(t, r)
	for i := range 5 {
		if _, err := c.Publish(within(t), &Packet{RepoID: "repo-0", Content: fmt.Appendf(nil, "repo-0/%d", i+1)}); err != nil {
			t.Fatal(err)
		}
		r.Forget()
	}
	if got := contents(r, "repo-0"); !slices.Equal(got, numbers(1, 5)) {
		t.Errorf("stored %v", got)
	}
}

func TestPublishStableProducerIsFenced(t *testing.T) {
	r := relay(t, nil)
	first := dial(t, r, WithProducer("indexer"))
	send := func(c *Client, content string) error {
		_, err := c.Publish(within(t), &Packet{RepoID: "repo-0", Content: []byte("repo-0/" + content)})
		return err
	}
	if err := send(first, "1"); err != nil {
		t.Fatal(err)
	}
	second := dial(t, r, WithProducer("indexer"))
	if err := send(second, "2"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from what the client knows
		if err := send(first, "x"); ErrorCode(err) != CodeFenced {
			t.Errorf("the first one sent on: %v, want %s", err, CodeFenced)
		}
	}
	if err := send(second, "3"); err != nil {
		t.Fatal(err)
	}
	if got := contents(r, "repo-0"); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("stored %v", got)
	}
}

func TestPublishStableProducerTakesEpochsFromTheCluster(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(p *wire.Packet) *wire.ResultView {
			if strings.HasSuffix(string(p.Content), "/3") {
				return &wire.ResultView{Code: CodeInvalidArgument}
			}
			return nil
		}
	})
	c := dial(t, r, WithProducer("indexer"))
	load(t, c, 3, 6)
	for k := range 3 {
		repo := fmt.Sprintf("repo-%d", k)
		if got, want := contents(r, repo), []string{"1", "2", "4", "5", "6"}; !slices.Equal(got, want) {
			t.Errorf("%s: stored %v, want %v", repo, got, want)
		}
		if e := r.Packets(repo)[4].Packet().GetPosition().GetEpoch(); e < 2 {
			t.Errorf("%s: the last packet came under epoch %d", repo, e)
		}
	}
	resp, _ := r.OpenProducer(within(t), &waystationv1.OpenProducerRequest{Producer: "indexer"})
	last := r.Packets("repo-0")[4].Packet().GetPosition().GetEpoch()
	if resp.GetEpoch() <= last {
		t.Errorf("the cluster gives epoch %d after the client used %d", resp.GetEpoch(), last)
	}
}

func TestPublishFindsThePacketThatEndsTheStream(t *testing.T) {
	r := relay(t, func(r *fakerelay.Relay) {
		r.OnPacket = func(p *wire.Packet) *wire.ResultView {
			if strings.HasSuffix(string(p.Content), "/50") {
				r.Fail(refused(CodeInvalidArgument))
			}
			return nil
		}
	})
	c := dial(t, r)
	for packet, err := range load(t, c, 2, 100) {
		if strings.HasSuffix(packet, "/50") != (ErrorCode(err) == CodeInvalidArgument) {
			t.Errorf("%s: %v", packet, err)
		}
	}
	want := slices.DeleteFunc(numbers(1, 100), func(s string) bool { return s == "50" })
	if got := contents(r, "repo-1"); !slices.Equal(got, want) {
		t.Errorf("stored %v", got)
	}
}
