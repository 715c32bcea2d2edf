package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	"github.com/waystation/waystation/node/member"
)

const (
	// spreadCall is what one node may take to bring something into the partitions
	// that it leads, spreadPause the time between two rounds.
	spreadCall  = 2 * time.Second
	spreadPause = 50 * time.Millisecond
)

// spreader brings groups and fences into every partition of the cluster: each
// node into those that it leads. Both may be brought twice without harm.
type spreader struct {
	member     *member.Member
	partitions []*actors.Partition
	// stranded says that a partition can be served by nobody before this node's next
	// start, which brings everything into it that it lacks.
	stranded func(*actors.Partition) bool
	// deleted says that a group of that id was deleted.
	deleted func(id uint32) bool
}

// everywhere returns once every partition has applied what q says, but those that
// are stranded.
func (s *spreader) everywhere(ctx context.Context, q *peerv1.SpreadRequest) error {
	done := map[uint32]bool{}
	for {
		for _, p := range s.partitions {
			if s.stranded(p) {
				done[uint32(p.ID())] = true
			}
		}
		err := s.round(ctx, q, done)
		if len(done) == len(s.partitions) {
			return nil
		}
		timer := time.NewTimer(spreadPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%d of %d partitions did not take it: %w", len(s.partitions)-len(done), len(s.partitions), errors.Join(ctx.Err(), err))
		}
	}
}

// round asks this node, and each other one that leads something that is not done.
func (s *spreader) round(ctx context.Context, q *peerv1.SpreadRequest, done map[uint32]bool) error {
	ctx, cancel := context.WithTimeout(ctx, spreadCall)
	defer cancel()
	var mu sync.Mutex
	var errs []error
	note := func(list []uint32, err error) {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range list {
			done[p] = true
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	local, others := s.leaders(done)
	var wait sync.WaitGroup
	if local {
		wait.Go(func() { note(s.here(ctx, q)) })
	}
	for n := range others {
		wait.Go(func() { note(s.there(ctx, n, q)) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (s *spreader) leaders(done map[uint32]bool) (local bool, others map[identity.NodeID]bool) {
	others = map[identity.NodeID]bool{}
	for _, p := range s.partitions {
		if done[uint32(p.ID())] {
			continue
		}
		if _, leads := p.Leading(); leads {
			local = true
		} else if n, ok := s.member.Leader(uint16(p.ID())); ok && n != s.member.Self().ID {
			others[n] = true
		}
	}
	return local, others
}

func (s *spreader) there(ctx context.Context, n identity.NodeID, q *peerv1.SpreadRequest) ([]uint32, error) {
	addr, ok := s.member.PeerAddress(n)
	if !ok {
		return nil, fmt.Errorf("nobody knows where node %s is", n)
	}
	peer, err := s.member.Pool().Peer(addr)
	if err != nil {
		return nil, err
	}
	answer, err := peer.Spread(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n, err)
	}
	return answer.GetDone(), nil
}

// here brings it into the partitions that this node leads, and returns those that
// have it.
func (s *spreader) here(ctx context.Context, q *peerv1.SpreadRequest) ([]uint32, error) {
	has, add, err := s.what(q)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var done []uint32
	var errs []error
	var wait sync.WaitGroup
	for _, p := range s.partitions {
		if _, leads := p.Leading(); !leads {
			continue
		}
		wait.Go(func() {
			err := error(nil)
			if !has(p) {
				err = command(ctx, p, add)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			done = append(done, uint32(p.ID()))
		})
	}
	wait.Wait()
	if len(done) > 0 {
		return done, nil
	}
	return nil, errors.Join(errs...)
}

// what is a request as a command, and whether a partition needs it.
func (s *spreader) what(q *peerv1.SpreadRequest) (has func(*actors.Partition) bool, add func(*repository.EntryBuilder), err error) {
	switch x := q.GetWhat().(type) {
	case *peerv1.SpreadRequest_Fence:
		never := func(*actors.Partition) bool { return false }
		return never, func(b *repository.EntryBuilder) { b.AddFence(x.Fence.GetProducer(), x.Fence.GetEpoch()) }, nil
	case *peerv1.SpreadRequest_Group:
		c, err := groupOf(meta.Group{
			ID: x.Group.GetId(), Name: x.Group.GetName(), Version: uint32(x.Group.GetVersion()), Settings: x.Group.GetSettings(),
		})
		if err != nil {
			return nil, nil, err
		}
		gone := s.deleted(x.Group.GetId()) // who asks has not heard of it
		return func(p *actors.Partition) bool { return gone || hasGroup(p, &c) }, func(b *repository.EntryBuilder) { b.AddSetGroup(&c) }, nil
	case *peerv1.SpreadRequest_DroppedGroup:
		id := repository.GroupID(x.DroppedGroup)
		return func(p *actors.Partition) bool { return !servesGroup(p, id) }, func(b *repository.EntryBuilder) { b.AddDropGroup(id) }, nil
	}
	return nil, nil, errors.New("nothing to spread")
}

func hasGroup(p *actors.Partition, c *repository.GroupConfig) (known bool) {
	_ = p.View(func(m *repository.Machine) error { // the callback has no error
		have, ok := m.GroupByName(c.Name)
		known = ok && have.ID == c.ID && have.Version >= c.Version
		return nil
	})
	return known
}

// servesGroup says whether a partition has a group that is not deleted there.
func servesGroup(p *actors.Partition, id repository.GroupID) bool {
	return slices.Contains(groupsOf(p), id)
}

// groupsOf are the groups that a partition serves.
func groupsOf(p *actors.Partition) (ids []repository.GroupID) {
	_ = p.View(func(m *repository.Machine) error { // the callback has no error
		for _, c := range m.Groups() {
			ids = append(ids, c.ID)
		}
		return nil
	})
	return ids
}

func groupRequest(g meta.Group) *peerv1.SpreadRequest {
	return &peerv1.SpreadRequest{What: &peerv1.SpreadRequest_Group{
		Group: &peerv1.Group{Id: g.ID, Name: g.Name, Version: uint64(g.Version), Settings: g.Settings},
	}}
}

func dropRequest(id uint32) *peerv1.SpreadRequest {
	return &peerv1.SpreadRequest{What: &peerv1.SpreadRequest_DroppedGroup{DroppedGroup: id}}
}

func fenceRequest(producer []byte, epoch uint64) *peerv1.SpreadRequest {
	return &peerv1.SpreadRequest{What: &peerv1.SpreadRequest_Fence{Fence: &peerv1.Fence{Producer: producer, Epoch: epoch}}}
}
