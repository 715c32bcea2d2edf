package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/storage"
)

// ahead is how far beyond the leader's entry the one lies that is compared at, try
// by try. An idle group gets there by entries without effect.
var ahead = [...]uint64{2, 64, 1024, 8192}

// armLimit is how long a node has to say that its replica waits for an entry.
const armLimit = 10 * time.Second

// Verify compares the replicas of all groups, one group after the other, within
// limit. What could not be compared is named in the answer.
func (c *Copies) Verify(ctx context.Context, limit time.Duration) (*waystationv1.VerifyClusterResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out := &waystationv1.VerifyClusterResponse{}
	for g := range storage.GroupID(len(c.cfg.Partitions) + 1) {
		v := &waystationv1.VerifiedGroup{Meta: g == meta.MetaGroup}
		if g != meta.MetaGroup {
			v.Partition = uint32(g) - 1
		}
		c.verify(ctx, g, v)
		out.Groups = append(out.Groups, v)
	}
	return out, nil
}

// verify compares one group.
func (c *Copies) verify(ctx context.Context, g storage.GroupID, v *waystationv1.VerifiedGroup) {
	for try, distance := range ahead {
		leader, applied, err := c.leader(ctx, g)
		if err != nil {
			v.Error = err.Error()
			return
		}
		passed := c.compare(ctx, g, leader, applied+distance, v)
		if !passed {
			judge(v)
			return
		}
		if try == len(ahead)-1 {
			v.Error = "a replica was too fast for the others at every try; try again with less load"
		}
	}
}

// leader is the node that leads a group, and what it has applied. A group that is
// without one for a moment gets time.
func (c *Copies) leader(ctx context.Context, g storage.GroupID) (n identity.NodeID, applied uint64, err error) {
	limited, cancel := context.WithTimeout(ctx, armLimit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		asked, done := context.WithTimeout(limited, time.Second)
		reports := c.cfg.Nodes.Reports(asked)
		done()
		term := uint64(0)
		for node, r := range reports {
			for _, x := range r.GetGroups() {
				if storage.GroupID(x.GetGroup()) == g && x.GetError() == "" && x.GetLeader() == x.GetReplica() && x.GetTerm() > term {
					n, applied, term = node, x.GetApplied(), x.GetTerm()
				}
			}
		}
		if term > 0 {
			return n, applied, nil
		}
		select {
		case <-tick.C:
		case <-limited.Done():
			return n, 0, fmt.Errorf("no leader answers: %w", limited.Err())
		}
	}
}

// attempt is one replica's part in a comparison.
type attempt struct {
	out   *waystationv1.VerifiedReplica
	node  identity.NodeID
	armed chan struct{}
	sum   *peerv1.VerifyResponse
}

// compare has all replicas of a group summed at index. It returns true, and
// nothing in v, if one of them was past that.
func (c *Copies) compare(ctx context.Context, g storage.GroupID, leader identity.NodeID, index uint64, v *waystationv1.VerifiedGroup) (passed bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := c.replicas(g)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	for _, a := range list {
		wait.Go(func() { a.sum = c.ask(ctx, g, index, a) })
	}
	c.allArmed(ctx, list)
	if err := c.push(ctx, g, leader, index); err != nil {
		v.Error = err.Error()
	}
	if v.GetError() != "" {
		cancel()
	}
	wait.Wait()
	v.Index, v.Replicas = index, nil
	for _, a := range list {
		if a.sum.GetPassed() {
			passed = true
		}
		a.out.Checksum, a.out.Records, a.out.Bytes, a.out.Payloads = a.sum.GetChecksum(), a.sum.GetRecords(), a.sum.GetBytes(), a.sum.GetPayloads()
		a.out.Error, a.out.Damaged = a.sum.GetError(), a.sum.GetDamaged()
		v.Replicas = append(v.Replicas, a.out)
	}
	if passed {
		v.Replicas, v.Error = nil, ""
	}
	return passed
}

// replicas are those that the map wants, each with its node's name.
func (c *Copies) replicas(g storage.GroupID) (list []*attempt) {
	view := c.cfg.Meta.View()
	for _, r := range view.GroupReplicas(g) {
		if !r.State.Runs() {
			continue
		}
		n, _ := view.Node(r.Node)
		list = append(list, &attempt{
			node: r.Node, armed: make(chan struct{}),
			out: &waystationv1.VerifiedReplica{Node: n.Name, NodeId: r.Node.String(), Replica: uint64(r.ID)},
		})
	}
	return list
}

// allArmed waits until every replica waits for the entry, or has answered.
func (c *Copies) allArmed(ctx context.Context, list []*attempt) {
	timer := time.NewTimer(armLimit)
	defer timer.Stop()
	for _, a := range list {
		select {
		case <-a.armed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// push has the leader apply entries up to index, whoever that is by then.
func (c *Copies) push(ctx context.Context, g storage.GroupID, leader identity.NodeID, index uint64) error {
	err := follow(ctx, leader,
		func(n identity.NodeID) error { return c.advanceAt(ctx, g, n, index) },
		func() (identity.NodeID, error) {
			n, _, err := c.leader(ctx, g)
			return n, err
		})
	if err != nil {
		return fmt.Errorf("have the leader go on to entry %d: %w", index, err)
	}
	return nil
}

func (c *Copies) advanceAt(ctx context.Context, g storage.GroupID, n identity.NodeID, index uint64) error {
	if n == c.cfg.Self {
		return c.advance(ctx, g, index)
	}
	peer, err := c.peer(n)
	if err != nil {
		return err
	}
	_, err = peer.Advance(ctx, &peerv1.AdvanceRequest{Group: uint32(g), Index: index})
	return err
}

// How often a leader is looked for again, and after what time.
const (
	followTries = 20
	followPause = 250 * time.Millisecond
)

// follow calls do with the leader, and again with whoever leads by then: leaderships
// move, most of all while nodes come back.
func follow(ctx context.Context, leader identity.NodeID, do func(identity.NodeID) error, find func() (identity.NodeID, error)) error {
	tick := time.NewTicker(followPause)
	defer tick.Stop()
	for try := 1; ; try++ {
		err := do(leader)
		if err == nil || try == followTries {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
		next, lost := find()
		if lost != nil {
			return errors.Join(err, lost)
		}
		leader = next
	}
}

// ask sums one replica, here or elsewhere. It closes a.armed.
func (c *Copies) ask(ctx context.Context, g storage.GroupID, index uint64, a *attempt) *peerv1.VerifyResponse {
	armed := sync.OnceFunc(func() { close(a.armed) })
	defer armed()
	var out *peerv1.VerifyResponse
	var err error
	if a.node == c.cfg.Self {
		out, err = c.sum(ctx, g, index, func() error { armed(); return nil })
	} else {
		out, err = c.askPeer(ctx, g, index, a.node, armed)
	}
	if err != nil {
		return &peerv1.VerifyResponse{Error: err.Error()}
	}
	return out
}

func (c *Copies) askPeer(ctx context.Context, g storage.GroupID, index uint64, n identity.NodeID, armed func()) (*peerv1.VerifyResponse, error) {
	peer, err := c.peer(n)
	if err != nil {
		return nil, err
	}
	stream, err := peer.Verify(ctx, &peerv1.VerifyRequest{Group: uint32(g), Index: index})
	if err != nil {
		return nil, err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if r.GetPassed() || r.GetError() != "" || r.GetIndex() != 0 {
			return r, nil
		}
		armed()
	}
}

// judge marks the replicas whose sum most others do not have.
func judge(v *waystationv1.VerifiedGroup) {
	type sum struct{ checksum, records, bytes uint64 }
	of := func(r *waystationv1.VerifiedReplica) sum { return sum{r.GetChecksum(), r.GetRecords(), r.GetBytes()} }
	count, most := map[sum]int{}, 0
	for _, r := range v.GetReplicas() {
		if r.GetError() == "" {
			count[of(r)]++
			most = max(most, count[of(r)])
		}
	}
	winners := 0
	for _, n := range count {
		if n == most {
			winners++
		}
	}
	for _, r := range v.GetReplicas() {
		r.Differs = r.GetError() == "" && (count[of(r)] < most || winners > 1)
	}
}
