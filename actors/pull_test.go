package actors

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

func (d *desk) pull(cfg PullConfig) []Delivery {
	d.t.Helper()
	if cfg.Group == "" {
		cfg.Group = "g"
	}
	list, err := d.service.Pull(d.t.Context(), cfg)
	if err != nil {
		d.t.Fatalf("pull: %v", err)
	}
	return list
}

func TestPullTakesWhatIsThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		start := time.Now()
		if got := d.pull(PullConfig{}); len(got) != 0 {
			t.Errorf("pulled %s of nothing", seqs(got))
		}
		if waited := time.Since(start); waited > 100*time.Millisecond {
			t.Errorf("a pull that must not wait took %v", waited)
		}
		for i := range 4 {
			d.send(fmt.Sprint("r", i), 3)
		}
		first := d.pull(PullConfig{Max: 5, WaitMs: 10_000})
		if len(first) != 5 {
			t.Errorf("pulled %d of 12, want 5", len(first))
		}
		second := d.pull(PullConfig{Max: 100, WaitMs: 10_000})
		seen := map[string]bool{}
		for _, x := range append(first, second...) {
			key := fmt.Sprint(x.Repo, x.Seq)
			if seen[key] {
				t.Errorf("%s was pulled twice", key)
			}
			seen[key] = true
			if x.Attempt != 1 {
				t.Errorf("%s is attempt %d: what was not returned was charged", key, x.Attempt)
			}
		}
	})
}

// A pull waits for a first packet, and no longer than it was told.
func TestPullWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		start := time.Now()
		if got := d.pull(PullConfig{WaitMs: 10_000}); len(got) != 0 {
			t.Errorf("pulled %s of nothing", seqs(got))
		}
		if waited := time.Since(start); waited != 10*time.Second {
			t.Errorf("waited %v for nothing", waited)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			<-time.After(3 * time.Second)
			d.send("r", 2)
		}()
		start = time.Now()
		if got := d.pull(PullConfig{WaitMs: 10_000}); seqs(got) != "[1 2]" {
			t.Errorf("pulled %s", seqs(got))
		}
		if waited := time.Since(start); waited < 3*time.Second || waited > 3100*time.Millisecond {
			t.Errorf("waited %v for a packet that came after 3 s", waited)
		}
		<-sent
	})
}

func TestPullThatIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := d.service.Pull(ctx, PullConfig{Group: "g", WaitMs: 10_000}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		d.send("r", 1)
		if got := d.pull(PullConfig{}); seqs(got) != "[1]" || got[0].Attempt != 1 {
			t.Errorf("what the other pull did not take: %+v", got)
		}
	})
}

// A worker's own grants come first, and alone: it may have crashed with them.
func TestPullUnderAName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("a", 2)
		first := d.pull(PullConfig{Worker: "ci"})
		if seqs(first) != "[1 2]" {
			t.Fatalf("pulled %s", seqs(first))
		}
		d.send("b", 1)
		again := d.pull(PullConfig{Worker: "ci"})
		if seqs(again) != "[1 2]" || !again[0].Redelivered || again[0].Token != first[0].Token || again[0].Attempt != 1 {
			t.Errorf("pulled again: %+v", again)
		}
		out, err := d.service.Settle(context.Background(), "g", dones(again))
		if err != nil || out[0].Refusal != nil || out[1].Refusal != nil {
			t.Fatalf("settled: %+v, %v", out, err)
		}
		if got := d.pull(PullConfig{Worker: "ci"}); len(got) != 1 || got[0].Repo != "b" || got[0].Redelivered {
			t.Errorf("then: %+v", got)
		}
	})
}

// An answer that no client could take would leave its packets leased to nobody.
func TestPullIsBoundedByBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.delivery.TakeBytes = 100 << 10 })
		for i := range 30 {
			d.publish(packet(wire.PacketFields{RepoID: fmt.Sprint("r", i), Content: make([]byte, 20<<10)}))
		}
		seen := 0
		for seen < 30 {
			got, size := d.pull(PullConfig{Max: 1000, WaitMs: 1000}), 0
			for i := range got {
				size += len(got[i].Packet)
				if got[i].Attempt != 1 {
					t.Errorf("%s was charged for not being returned: attempt %d", got[i].Repo, got[i].Attempt)
				}
			}
			if size > 125<<10 || len(got) == 0 {
				t.Fatalf("%d packets of %d bytes in one answer", len(got), size)
			}
			if _, err := d.service.Settle(context.Background(), "g", dones(got)); err != nil {
				t.Fatal(err)
			}
			seen += len(got)
		}
	})
}

func TestPullsThatAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		for _, c := range []struct {
			cfg   PullConfig
			field string
		}{
			{PullConfig{}, "group"},
			{PullConfig{Group: "g", Max: 1025}, "max"},
			{PullConfig{Group: "g", WaitMs: 60_001}, "wait_ms"},
			{PullConfig{Group: "g", LeaseMs: 1}, "lease_ms"},
			{PullConfig{Group: "g", Worker: "\xff"}, "worker"},
		} {
			_, err := d.service.Pull(context.Background(), c.cfg)
			if r := refusalIn(err); r == nil || r.Code != CodeInvalidArgument || r.Field != c.field {
				t.Errorf("%+v: got %v, want a refusal of %s", c.cfg, err, c.field)
			}
		}
	})
}

// A hundred pulls at once share what there is: nothing twice, nothing forgotten.
func TestPullsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxBatch = 3 })
		const pulls, repos, each = 20, 30, 10
		got := make(chan Delivery, repos*each*2)
		for range pulls {
			go func() {
				for {
					list, err := d.service.Pull(t.Context(), PullConfig{Group: "g", Max: 7, WaitMs: 5000})
					if err != nil || len(list) == 0 {
						return
					}
					if _, err := d.service.Settle(t.Context(), "g", dones(list)); err != nil {
						return
					}
					for _, x := range list {
						got <- x
					}
				}
			}()
		}
		for i := range repos {
			d.send(fmt.Sprint("r", i), each)
		}
		last := map[string]repository.Seq{}
		for n := range repos * each {
			select {
			case x := <-got:
				if x.Attempt != 1 {
					t.Errorf("%s %d is attempt %d", x.Repo, x.Seq, x.Attempt)
				}
				last[x.Repo]++
			case <-time.After(time.Minute):
				t.Fatalf("only %d of %d came", n, repos*each)
			}
		}
		pass(10 * time.Second) // the pulls end
		if len(got) != 0 || len(last) != repos {
			t.Errorf("%d too many, %d repositories", len(got), len(last))
		}
	})
}
