package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

func TestLookupByNumberAndID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		accepted := time.Now().UnixMilli()
		raw := packet(wire.PacketFields{RepoID: "r", PacketID: "the-id", Content: []byte("hello")})
		d.publish(plain("r", "before"), raw)
		for _, c := range []struct {
			seq repository.Seq
			id  string
		}{{2, ""}, {0, "the-id"}, {2, "ignored"}} {
			info, err := d.service.Lookup(context.Background(), "r", c.seq, c.id)
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			if info.Seq != 2 || info.Stored == nil || info.Stored.Seq != 2 || info.Stored.AcceptedMs != accepted || len(info.Groups) != 0 {
				t.Fatalf("%+v: got %+v", c, info)
			}
			var p wire.Packet
			if err := p.Parse(info.Stored.Packet); err != nil || string(p.Content) != "hello" || !p.HasCRC {
				t.Errorf("%+v: content %q, checksum %v, %v", c, p.Content, p.HasCRC, err)
			}
		}
		for _, c := range []struct {
			repo  string
			seq   repository.Seq
			id    string
			code  string
			field string
		}{
			{"", 1, "", CodeInvalidArgument, "repo_id"},
			{strings.Repeat("x", 513), 1, "", CodeInvalidArgument, "repo_id"},
			{"\xff", 1, "", CodeInvalidArgument, "repo_id"},
			{"r", 0, "", CodeInvalidArgument, "sequence"},
			{"r", 3, "", CodeNotFound, "sequence"},
			{"other", 1, "", CodeNotFound, "sequence"},
			{"r", 0, "unknown", CodeNotFound, "packet_id"},
			{"other", 0, "the-id", CodeNotFound, "packet_id"},
		} {
			_, err := d.service.Lookup(context.Background(), c.repo, c.seq, c.id)
			if r := refusalIn(err); r == nil || r.Code != c.code || r.Field != c.field {
				t.Errorf("%+v: got %v", c, err)
			}
		}
	})
}

// A packet's state in each group, from waiting to its end.
func TestStatesOfAPacket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("a", func(c *repository.GroupConfig) { c.MaxAttempts = 2 })
		d.group("b", nil)
		d.send("r", 2)
		state := func(seq repository.Seq) (out []string) {
			for _, g := range d.lookup("r", seq).Groups {
				out = append(out, g.Group+" "+g.State)
			}
			return out
		}
		want := func(seq repository.Seq, states ...string) {
			t.Helper()
			if got := state(seq); !slices.Equal(got, states) {
				t.Errorf("packet %d: got %v, want %v", seq, got, states)
			}
		}
		want(1, "a waiting", "b waiting")
		w := d.open(SessionConfig{Group: "a", Credit: 1})
		b := w.want(1, "[1]")
		want(1, "a leased", "b waiting")
		want(2, "a waiting", "b waiting")
		w.settle(retry(&b[0], "first")).want("OK")
		if g := d.lookup("r", 1).Groups[0]; g.State != "waiting" || g.Attempts != 1 || g.LastError != "first" {
			t.Errorf("after a retry: %+v", g)
		}
		b = w.want(1, "[1]")
		w.settle(retry(&b[0], "second")).want("OK")
		if g := d.lookup("r", 1).Groups[0]; g.State != "dead" || g.Attempts != 2 || g.LastError != "second" || g.Reason != "attempts" {
			t.Errorf("after the last retry: %+v", g)
		}
		w.Close()
		other := d.open(SessionConfig{Group: "b", Credit: 1})
		c := other.want(1, "[1]")
		x := done(&c[0])
		x.Result = []byte("found nothing")
		other.settle(x).want("OK")
		want(1, "a dead", "b done")
		info := d.lookup("r", 1)
		if string(info.Groups[1].Result) != "found nothing" {
			t.Errorf("result %q", info.Groups[1].Result)
		}
		if info.Stored == nil {
			t.Error("a dead letter's content is not shown")
		}
		pass(2 * time.Hour)
		if r := d.lookup("r", 1).Groups[1].Result; r != nil {
			t.Errorf("result %q after its time", r)
		}
	})
}

// What every group has settled is no longer kept, but its number is known.
func TestLookupOfWhatIsSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.send("r", 2)
		w := d.open(SessionConfig{Credit: 10})
		w.allDone(w.want(2, "[1 2]"))
		info := d.lookup("r", 1)
		if info.Stored != nil || len(info.Groups) != 1 || info.Groups[0].State != "done" {
			t.Errorf("got %+v", info)
		}
	})
}

func TestReadPackets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.delivery.TakeBytes = 1 << 10 })
		for i := range 30 {
			d.publish(packet(wire.PacketFields{RepoID: "r", Content: []byte{byte(i)}, Priority: uint8(i % 3)}))
		}
		read := func(from repository.Seq, limit uint32) (got []repository.Seq) {
			t.Helper()
			list, head, err := d.service.ReadPackets(context.Background(), "r", from, limit)
			if err != nil || head != 30 {
				t.Fatalf("read from %d: head %d, %v", from, head, err)
			}
			for i := range list {
				var p wire.Packet
				if err := p.Parse(list[i].Packet); err != nil || p.Content[0] != byte(list[i].Seq-1) {
					t.Errorf("packet %d has the content %v", list[i].Seq, p.Content)
				}
				got = append(got, list[i].Seq)
			}
			return got
		}
		if got := read(0, 0); len(got) != 30 || !slices.IsSorted(got) {
			t.Errorf("all: %v", got)
		}
		if got := fmt.Sprint(read(5, 3)); got != "[5 6 7]" {
			t.Errorf("three from 5: %s", got)
		}
		if got := fmt.Sprint(read(29, 100)); got != "[29 30]" {
			t.Errorf("from 29: %s", got)
		}
		if got := read(31, 10); len(got) != 0 {
			t.Errorf("behind the head: %v", got)
		}
		d.publish(packet(wire.PacketFields{RepoID: "big", Content: make([]byte, 800)}),
			packet(wire.PacketFields{RepoID: "big", Content: make([]byte, 800)}),
			packet(wire.PacketFields{RepoID: "huge", Content: make([]byte, 5000)}))
		for repo, want := range map[string]int{"big": 1, "huge": 1, "none": 0} {
			if list, _, err := d.service.ReadPackets(context.Background(), repo, 0, 0); err != nil || len(list) != want {
				t.Errorf("%s: %d packets, %v; want %d: no more bytes than one answer may have, and one in any case", repo, len(list), err, want)
			}
		}
		for _, c := range []struct {
			repo  string
			limit uint32
			field string
		}{{"r", 1001, "limit"}, {"", 1, "repo_id"}} {
			_, _, err := d.service.ReadPackets(context.Background(), c.repo, 0, c.limit)
			if r := refusalIn(err); r == nil || r.Field != c.field {
				t.Errorf("%+v: got %v", c, err)
			}
		}
	})
}

func TestRepositoryInfo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("a", nil)
		d.group("b", nil)
		d.send("r", 5)
		w := d.open(SessionConfig{Group: "a", Credit: 3, MaxBatch: 3, LeaseMs: 5000})
		b := w.want(3, "[1 2 3]")
		w.allDone(b[:1])
		info, err := d.service.Repository(context.Background(), "r")
		if err != nil {
			t.Fatal(err)
		}
		if info.Head != 5 || info.Backlog != 5 || info.BacklogBytes == 0 || info.Partition != d.partition("r").ID() || len(info.Groups) != 2 {
			t.Errorf("got %+v", info)
		}
		a, other := info.Groups[0], info.Groups[1]
		until := time.Until(time.UnixMilli(a.LeasedUntilMs))
		if a.Group != "a" || a.Cursors[repository.RankNormal] != 1 || a.Token != b[0].Token || a.Waiting != 4 || until < 4*time.Second || until > 5*time.Second {
			t.Errorf("a: %+v", a)
		}
		if other.Group != "b" || other.Cursors[repository.RankNormal] != 0 || other.Token != 0 || other.LeasedUntilMs != 0 || other.Waiting != 5 {
			t.Errorf("b: %+v", other)
		}
		for repo, field := range map[string]string{"none": "repo_id", "": "repo_id"} {
			_, err := d.service.Repository(context.Background(), repo)
			if r := refusalIn(err); r == nil || r.Field != field {
				t.Errorf("%q: got %v", repo, err)
			}
		}
	})
}

// Dead letters come page by page, over all partitions, each once.
func TestDeadLettersByPage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, func(s *deskSettings) { s.relay.Partitions = 5 })
		w := d.open(SessionConfig{Credit: 1000})
		want := map[string]bool{}
		for i := range 23 {
			repo := fmt.Sprint("r", i%7)
			d.publish(packet(wire.PacketFields{RepoID: repo, PacketID: fmt.Sprint("id", i), Content: []byte("x")}))
			x := w.take(1)
			if i%4 == 0 {
				w.allDone(x)
				continue
			}
			w.settle(dead(&x[0], "why")).want("OK")
			want[fmt.Sprint(repo, " ", x[0].Seq, " id", i)] = true
		}
		for _, limit := range []uint32{1, 2, 3, 7, 17, 18, 100, 0} {
			got, pages, cursor := map[string]bool{}, 0, ""
			for {
				list, next, err := d.service.DeadLetters(context.Background(), DeadQuery{Group: "g", Limit: limit, Cursor: cursor})
				if err != nil {
					t.Fatal(err)
				}
				if limit > 0 && len(list) > int(limit) {
					t.Errorf("limit %d: a page of %d", limit, len(list))
				}
				for _, x := range list {
					key := fmt.Sprint(x.Repo, " ", x.Seq, " ", x.PacketID)
					if got[key] || !want[key] {
						t.Errorf("limit %d: %s comes twice, or is none", limit, key)
					}
					got[key] = true
				}
				if pages++; next == "" || pages > 100 {
					break
				}
				cursor = next
			}
			if len(got) != len(want) {
				t.Errorf("limit %d: %d dead letters in %d pages, want %d", limit, len(got), pages, len(want))
			}
		}
	})
}

func TestDeadLettersFiltered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("other", nil)
		d.group("g", func(c *repository.GroupConfig) { c.MaxAttempts = 1 })
		w := d.open(SessionConfig{Credit: 1})
		for i := range 12 {
			d.send(fmt.Sprint("r", i%3), 1)
			x := w.take(1)
			if i%2 == 0 {
				w.settle(dead(&x[0], "")).want("OK")
			} else {
				w.settle(retry(&x[0], "")).want("OK")
			}
		}
		for _, c := range []struct {
			q    DeadQuery
			want int
		}{
			{DeadQuery{Group: "g"}, 12},
			{DeadQuery{Group: "g", Repo: "r1"}, 4},
			{DeadQuery{Group: "g", Reason: "rejected"}, 6},
			{DeadQuery{Group: "g", Reason: "attempts"}, 6},
			{DeadQuery{Group: "g", Reason: "expired"}, 0},
			{DeadQuery{Group: "g", Repo: "r1", Reason: "attempts"}, 2},
			{DeadQuery{Group: "g", Repo: "none"}, 0},
			{DeadQuery{Group: "other"}, 0},
		} {
			for _, limit := range []uint32{0, 1, 2} {
				c.q.Limit, c.q.Cursor = limit, ""
				n := 0
				for {
					list, next, err := d.service.DeadLetters(context.Background(), c.q)
					if err != nil {
						t.Fatal(err)
					}
					for _, x := range list {
						if c.q.Repo != "" && x.Repo != c.q.Repo || c.q.Reason != "" && x.Reason.String() != c.q.Reason {
							t.Errorf("%+v: got %+v", c.q, x)
						}
					}
					if n += len(list); next == "" {
						break
					}
					c.q.Cursor = next
				}
				if n != c.want {
					t.Errorf("%+v: %d, want %d", c.q, n, c.want)
				}
			}
		}
		for _, c := range []struct {
			q     DeadQuery
			field string
		}{
			{DeadQuery{}, "group"},
			{DeadQuery{Group: "nobody"}, "group"},
			{DeadQuery{Group: "g", Limit: 1001}, "limit"},
			{DeadQuery{Group: "g", Reason: "boredom"}, "reason"},
			{DeadQuery{Group: "g", Repo: strings.Repeat("x", 600)}, "repo_id"},
			{DeadQuery{Group: "g", Cursor: "x"}, "cursor"},
			{DeadQuery{Group: "g", Cursor: "99."}, "cursor"},
			{DeadQuery{Group: "g", Cursor: "-1."}, "cursor"},
			{DeadQuery{Group: "g", Cursor: "0.xyz"}, "cursor"},
		} {
			_, _, err := d.service.DeadLetters(context.Background(), c.q)
			if r := refusalIn(err); r == nil || r.Field != c.field {
				t.Errorf("%+v: got %v", c.q, err)
			}
		}
	})
}

// Reads ask a majority first: without one they say so, and don't answer from what
// may be old.
func TestReadsWaitForTheirBarrier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.group("g", nil)
		d.send("r", 1)
		reads := map[string]func(ctx context.Context) error{
			"lookup": func(ctx context.Context) error { _, err := d.service.Lookup(ctx, "r", 1, ""); return err },
			"read":   func(ctx context.Context) error { _, _, err := d.service.ReadPackets(ctx, "r", 0, 1); return err },
			"repo":   func(ctx context.Context) error { _, err := d.service.Repository(ctx, "r"); return err },
			"dead": func(ctx context.Context) error {
				_, _, err := d.service.DeadLetters(ctx, DeadQuery{Group: "g"})
				return err
			},
		}
		for name, read := range reads {
			if err := read(context.Background()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		var release []func(error)
		for _, p := range d.taps {
			release = append(release, p.holdBarriers())
		}
		for name, read := range reads {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if err := read(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s without a majority: %v", name, err)
			}
			cancel()
		}
		for _, f := range release {
			f(nil)
		}
		for _, p := range d.relay.Partitions() {
			d.proposer.resign(p.Group())
		}
		pass(time.Second)
		for name, read := range reads {
			var r *Refusal
			if err := read(context.Background()); !errors.As(err, &r) || r.Code != CodeUnavailable || r.RetryAfter <= 0 {
				t.Errorf("%s without leadership: %v", name, err)
			}
		}
	})
}

// What was spilled and truncated is read and delivered as before.
func TestSpilledPackets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDesk(t, nil)
		for i := range 10 {
			d.publish(packet(wire.PacketFields{RepoID: "r", Content: []byte{byte(i)}}))
		}
		p := d.partition("r")
		d.proposer.truncate(t, p.Group(), d.proposer.last(p.Group()))
		list, _, err := d.service.ReadPackets(context.Background(), "r", 0, 0)
		if err != nil || len(list) != 10 {
			t.Fatalf("%d packets, %v", len(list), err)
		}
		w := d.open(SessionConfig{Credit: 100})
		b := w.take(10)
		for i := range b {
			if c := content(t, &b[i]); len(c) != 1 || c[0] != byte(i) {
				t.Errorf("packet %d has the content %v", i+1, c)
			}
		}
		w.allDone(b)
	})
}
