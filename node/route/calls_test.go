package route

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

func refusalIn(err error) *actors.Refusal {
	var r *actors.Refusal
	if errors.As(err, &r) {
		return r
	}
	return &actors.Refusal{}
}

func TestReadsGoToTheLeader(t *testing.T) {
	c := newTrio(t, nil)
	for p := range testPartitions {
		repo := c.repoIn(p, 0)
		sent := wire.PacketFields{RepoID: repo, PacketID: "id", Content: []byte("content"), Metadata: map[string]string{"k": "v"}}
		for _, a := range c.nodes[0].publish(t, sent, wire.PacketFields{RepoID: repo, Content: []byte("2")}) {
			if a.refusal != nil {
				t.Fatal(a.refusal)
			}
		}
		for at, n := range c.nodes {
			d := n.router.Delivery()
			info, err := d.Lookup(t.Context(), repo, 0, "id")
			if err != nil || info.Seq != 1 || info.Stored == nil || info.Stored.AcceptedMs == 0 {
				t.Fatalf("node %d, %s: %+v, %v", at, repo, info, err)
			}
			var got wire.Packet
			if err := got.Parse(info.Stored.Packet); err != nil || !bytes.HasPrefix(info.Stored.Packet, wire.AppendPacket(nil, &sent)) {
				t.Errorf("node %d: the packet's bytes changed: %x, %v", at, info.Stored.Packet, err)
			}
			list, head, err := d.ReadPackets(t.Context(), repo, 1, 10)
			if err != nil || head != 2 || len(list) != 2 || list[1].Seq != 2 || !bytes.Equal(list[0].Packet, info.Stored.Packet) {
				t.Errorf("node %d reads %d packets of %d, %v", at, len(list), head, err)
			}
			about, err := d.Repository(t.Context(), repo)
			if err != nil || about.Head != 2 || about.Backlog != 2 || int(about.Partition) != p {
				t.Errorf("node %d: %+v, %v", at, about, err)
			}
			if _, err := d.Lookup(t.Context(), repo, 9, ""); refusalIn(err).Code != actors.CodeNotFound || refusalIn(err).Field != "sequence" {
				t.Errorf("node %d looks up what is not there: %v", at, err)
			}
			if _, _, err := d.ReadPackets(t.Context(), repo, 1, 5000); refusalIn(err).Code != actors.CodeInvalidArgument || refusalIn(err).Field != "limit" {
				t.Errorf("node %d reads too many: %v", at, err)
			}
		}
	}
	c.w.lead(3, -1)
	await(t, "the router to know", func() bool { return !c.nodes[1].router.table.Load().targets[3].ok })
	if _, err := c.nodes[1].router.Delivery().Repository(t.Context(), c.repoIn(3, 0)); refusalIn(err).Code != actors.CodeUnavailable {
		t.Errorf("without a leader: %v", err)
	}
}

// pulled gets every partition's packets under lease, from the nodes themselves.
func (c *trio) pulled(worker string) (list []actors.Delivery) {
	c.t.Helper()
	for _, n := range c.nodes {
		got, err := n.delivery.Pull(c.t.Context(), actors.PullConfig{Group: "g", Worker: worker, WaitMs: 30_000, Max: 1000})
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, got...)
	}
	return list
}

func TestSettleAndRenewThroughAnyNode(t *testing.T) {
	c := newTrio(t, nil)
	var sent []wire.PacketFields
	for p := range testPartitions {
		sent = append(sent, wire.PacketFields{RepoID: c.repoIn(p, 0), Content: []byte("x")})
	}
	c.nodes[0].publish(t, sent...)
	list := c.pulled("w")
	if len(list) != testPartitions {
		t.Fatalf("%d packets", len(list))
	}
	d := c.nodes[2].router.Delivery()
	var refs []actors.LeaseRef
	var settle []actors.Settlement
	for i := range list {
		refs = append(refs, actors.LeaseRef{Repo: list[i].Repo, Token: list[i].Token})
		settle = append(settle, actors.Settlement{Repo: list[i].Repo, Seq: list[i].Seq, Token: list[i].Token, Outcome: actors.OutcomeDone})
	}
	renewed, err := d.Renew(t.Context(), "g", append(refs, actors.LeaseRef{Repo: refs[0].Repo, Token: 1}))
	if err != nil || len(renewed) != len(refs)+1 {
		t.Fatalf("renewed %+v, %v", renewed, err)
	}
	for i, x := range renewed[:len(refs)] {
		if x.Index != i || x.Repo != refs[i].Repo || x.Refusal != nil || x.ExpiresMs == 0 {
			t.Errorf("renewal %d: %+v", i, x)
		}
	}
	if x := renewed[len(refs)]; x.Refusal == nil || x.Refusal.Code != actors.CodeStaleLease {
		t.Errorf("a wrong token: %+v", x)
	}
	stale := settle[1]
	stale.Token++
	for again := range 2 { // the same settlement twice is fine
		out, err := d.Settle(t.Context(), "g", append(settle, stale))
		if err != nil || len(out) != len(settle)+1 {
			t.Fatalf("settled %+v, %v", out, err)
		}
		for i, x := range out[:len(settle)] {
			if x.Index != i || x.Repo != settle[i].Repo || x.Seq != settle[i].Seq || x.Refusal != nil {
				t.Errorf("time %d, settlement %d: %+v (%v)", again, i, x, x.Refusal)
			}
		}
		if x := out[len(settle)]; x.Refusal == nil || x.Refusal.Code != actors.CodeStaleLease {
			t.Errorf("a wrong token: %+v", x)
		}
	}
	if _, err := d.Settle(t.Context(), "no such", settle); refusalIn(err).Code != actors.CodeNotFound {
		t.Errorf("a group that is not there: %v", err)
	}
}

func TestSettleOfANodeThatIsGone(t *testing.T) {
	c := newTrio(t, nil)
	c.nodes[0].publish(t, wire.PacketFields{RepoID: c.repoIn(0, 0), Content: []byte("x")}, wire.PacketFields{RepoID: c.repoIn(1, 0), Content: []byte("x")},
		wire.PacketFields{RepoID: c.repoIn(2, 0), Content: []byte("x")})
	var settle []actors.Settlement
	for _, x := range c.pulled("w") {
		settle = append(settle, actors.Settlement{Repo: x.Repo, Seq: x.Seq, Token: x.Token, Outcome: actors.OutcomeDone})
	}
	c.nodes[1].stopServing()
	out, err := c.nodes[0].router.Delivery().Settle(t.Context(), "g", settle)
	if err != nil || len(out) != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, x := range out {
		gone := x.Repo == c.repoIn(1, 0)
		if gone && (x.Refusal == nil || x.Refusal.Code != actors.CodeUnavailable || !x.Refusal.Retriable()) || !gone && x.Refusal != nil {
			t.Errorf("%+v: %v", x, x.Refusal)
		}
	}
}

func TestDeadLettersOfAllPartitions(t *testing.T) {
	c := newTrio(t, nil)
	const each = 5
	for p := range testPartitions {
		for i := range each {
			c.nodes[p%3].publish(t, wire.PacketFields{RepoID: c.repoIn(p, i), PacketID: fmt.Sprint(i), Content: []byte("x")})
		}
	}
	var settle []actors.Settlement
	for len(settle) < testPartitions*each {
		for _, x := range c.pulled("") {
			settle = append(settle, actors.Settlement{Repo: x.Repo, Seq: x.Seq, Token: x.Token, Outcome: actors.OutcomeDead, Error: "why"})
		}
	}
	out, err := c.nodes[1].router.Delivery().Settle(t.Context(), "g", settle)
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if out[i].Refusal != nil {
			t.Fatal(out[i].Refusal)
		}
	}
	var first string
	for at, n := range c.nodes {
		for _, limit := range []uint32{3, 7, 1000} {
			var all string
			count := 0
			for cursor := ""; ; {
				list, next, err := n.router.Delivery().DeadLetters(t.Context(), actors.DeadQuery{Group: "g", Limit: limit, Cursor: cursor})
				if err != nil {
					t.Fatal(err)
				}
				if len(list) > int(limit) {
					t.Errorf("%d letters in a page of %d", len(list), limit)
				}
				for _, x := range list {
					all += fmt.Sprintln(x.Repo, x.Seq, x.Reason, x.Attempts, x.Error(), x.PacketID)
					count++
				}
				if cursor = next; cursor == "" {
					break
				}
			}
			if first == "" {
				first = all
			}
			if count != testPartitions*each || all != first {
				t.Errorf("node %d, pages of %d: %d letters:\n%s\nwant\n%s", at, limit, count, all, first)
			}
		}
		one, next, err := n.router.Delivery().DeadLetters(t.Context(), actors.DeadQuery{Group: "g", Repo: c.repoIn(2, 3)})
		if err != nil || next != "" || len(one) != 1 || one[0].Reason != repository.ReasonRejected {
			t.Errorf("node %d, of one repository: %+v, %q, %v", at, one, next, err)
		}
		for name, q := range map[string]actors.DeadQuery{
			"since later": {SinceMs: one[0].AtMs + time.Hour.Milliseconds()}, "until earlier": {UntilMs: one[0].AtMs - time.Hour.Milliseconds()},
		} {
			q.Group, q.Limit = "g", 1000
			if list, next, err := n.router.Delivery().DeadLetters(t.Context(), q); err != nil || len(list) != 0 || next != "" {
				t.Errorf("node %d, %s: %d letters, %q, %v", at, name, len(list), next, err)
			}
			for _, action := range []repository.DeadAction{repository.DeadRedrive, repository.DeadDiscard} {
				if done, err := n.router.Delivery().EndDead(t.Context(), actors.DeadOrder{Action: action, DeadQuery: q}); err != nil || done.Count != 0 {
					t.Errorf("node %d, %s: %+v, %v", at, name, done, err)
				}
			}
		}
		if _, _, err := n.router.Delivery().DeadLetters(t.Context(), actors.DeadQuery{Group: "g", SinceMs: 2, UntilMs: 1}); refusalIn(err).Field != "since" {
			t.Errorf("node %d, since after until: %v", at, err)
		}
		if _, _, err := n.router.Delivery().DeadLetters(t.Context(), actors.DeadQuery{Group: "g", Cursor: "rubbish"}); refusalIn(err).Field != "cursor" {
			t.Errorf("node %d, a made-up cursor: %v", at, err)
		}
	}
	for at, action := range []repository.DeadAction{repository.DeadRedrive, repository.DeadDiscard} {
		c.endDead(t, c.nodes[at], action, testPartitions*each/2)
	}
	for _, x := range c.pulled("") {
		if x.RedriveOf != 1 || x.Seq != 2 {
			t.Errorf("redriven: %s %d of %d", x.Repo, x.Seq, x.RedriveOf)
		}
	}
}

// endDead does to some dead letters, through a node that leads a part of them, what
// action says.
func (c *trio) endDead(t *testing.T, n *node, action repository.DeadAction, most int) {
	t.Helper()
	count, o := 0, actors.DeadOrder{Action: action, DeadQuery: actors.DeadQuery{Group: "g"}}
	for count < most {
		o.Limit = uint32(min(7, most-count))
		done, err := n.router.Delivery().EndDead(t.Context(), o)
		if err != nil || done.Looked > int(o.Limit) || done.Looked == 0 {
			t.Fatalf("%+v: %+v, %v", o, done, err)
		}
		count, o.Cursor = count+done.Count, done.Next
	}
	if count != most {
		t.Errorf("%d dead letters, want %d", count, most)
	}
}
