package actors

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/waystation/waystation/actors/intake"
)

// resident is an active repository: its actor, and what the actor shares with the
// rest of the partition.
type resident struct {
	partition *Partition
	repo      []byte // never changed
	mailbox   *Mailbox
	pid       *actor.PID
	done      chan struct{} // closed when the actor is gone and a new one may be made

	flow     intake.Flow[packetRef] // guarded by the partition's lock
	holding  intake.Holding         // guarded by the relay's budget
	attached atomic.Int32           // resends that wait in the actor's filter
	used     atomic.Int64           // when a message was last offered, on the relay's clock
	passing  atomic.Bool            // the sweeper has asked it to go
	blind    bool                   // an earlier filter was lost with packets in flight; the actor's
}

// registryShards spread the lock. A partition's registry is one of many already.
const registryShards = 8

// registry finds a partition's residents by repository. Actors are not found by
// their names: a name belongs to one incarnation, so that no message and no
// restart can reach the next one.
type registry struct {
	partition *Partition
	shards    [registryShards]registryShard
}

type registryShard struct {
	mu        sync.Mutex
	open      bool
	residents map[string]*resident
	parked    map[string]*Refusal
	blind     map[string]bool // unparked, and not started yet
}

func (g *registry) shard(hash uint64) *registryShard {
	return &g.shards[hash%registryShards] // the high bits have chosen the partition
}

// find returns the repository's resident and starts its actor if there is none.
// The error is why there can be none.
func (g *registry) find(hash uint64, repo []byte) (*resident, *Refusal) {
	s := g.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.residents[string(repo)]; ok {
		return r, nil
	}
	switch {
	case !s.open:
		return nil, refusedNotLeader
	case s.parked[string(repo)] != nil:
		return nil, s.parked[string(repo)]
	}
	relay := g.partition.relay
	if relay.active.Load() >= int64(relay.cfg.MaxActors)+int64(relay.cfg.MaxActors/4)+1 {
		relay.sweepSoon()
		return nil, refusedActors
	}
	r := g.spawn(string(repo), s.blind[string(repo)])
	delete(s.blind, string(repo))
	if s.residents == nil {
		s.residents = make(map[string]*resident)
	}
	s.residents[string(repo)] = r
	if relay.active.Add(1) > int64(relay.cfg.MaxActors) {
		relay.sweepSoon()
	}
	return r, nil
}

// spawn starts an actor under a name of its own.
func (g *registry) spawn(repo string, blind bool) *resident {
	relay := g.partition.relay
	r := &resident{
		partition: g.partition, repo: []byte(repo), blind: blind,
		mailbox: NewMailbox(relay.cfg.MailboxPackets, relay.cfg.MailboxBytes),
		done:    make(chan struct{}),
	}
	r.used.Store(int64(relay.now()))
	props := actor.PropsFromProducer(
		func() actor.Actor { return newRepositoryActor(r) },
		actor.WithMailbox(func() actor.Mailbox { return r.mailbox }),
		actor.WithDispatcher(relay.dispatcher),
	)
	name := repo + "#" + strconv.FormatUint(relay.incarnation.Add(1), 10)
	pid, err := relay.root.SpawnNamed(props, name)
	if err != nil {
		panic("actors: incarnation is not unique: " + err.Error()) // the counter would have to repeat itself
	}
	r.pid = pid
	return r
}

// remove forgets a resident whose actor has stopped, and lets a new one be made.
func (g *registry) remove(r *resident) {
	hash := hashRepo(g.partition.relay.cfg.HashSeed, r.repo)
	s := g.shard(hash)
	s.mu.Lock()
	if s.residents[string(r.repo)] == r {
		delete(s.residents, string(r.repo))
		g.partition.relay.active.Add(-1)
	}
	s.mu.Unlock()
	close(r.done)
}

// each visits the residents; a shard's lock is held during a visit.
func (g *registry) each(visit func(r *resident)) {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		for _, r := range s.residents {
			visit(r)
		}
		s.mu.Unlock()
	}
}

func (g *registry) openAll() {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		s.open = true
		s.mu.Unlock()
	}
}

// stopAll lets no actor start any more, answers what waits in the mailboxes with
// refusal, and returns once all actors are gone.
func (g *registry) stopAll(refusal *Refusal) {
	var all []*resident
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		s.open = false
		for _, r := range s.residents {
			all = append(all, r)
		}
		s.mu.Unlock()
	}
	for _, r := range all {
		r.stop(refusal)
	}
	for _, r := range all {
		<-r.done
	}
}

// stop closes the mailbox, answers what waited in it, and stops the actor. What
// is in hand is answered by the actor itself.
func (r *resident) stop(refusal *Refusal) {
	for _, message := range r.mailbox.Close() {
		if o, ok := message.(*offer); ok {
			o.refuse(refusal)
		}
	}
	r.partition.relay.root.Stop(r.pid)
}

// park stops a repository's actor until Unpark.
func (g *registry) park(r *resident) {
	s := g.shard(hashRepo(g.partition.relay.cfg.HashSeed, r.repo))
	s.mu.Lock()
	if s.parked == nil {
		s.parked = make(map[string]*Refusal)
	}
	s.parked[string(r.repo)] = refusedParked
	s.mu.Unlock()
	r.stop(refusedParked)
}

func (g *registry) unpark(repo string) bool {
	s := g.shard(hashRepo(g.partition.relay.cfg.HashSeed, []byte(repo)))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was := s.parked[repo]
	delete(s.parked, repo)
	if was { // what it had queued when it was parked may still be on its way
		if s.blind == nil {
			s.blind = make(map[string]bool)
		}
		s.blind[repo] = true
	}
	return was
}

func (g *registry) isParked(repo []byte) bool {
	s := g.shard(hashRepo(g.partition.relay.cfg.HashSeed, repo))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parked[string(repo)] != nil
}

func (g *registry) listParked(dst []string) []string {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		for repo := range s.parked {
			dst = append(dst, repo)
		}
		s.mu.Unlock()
	}
	return dst
}

// idleFor is how long the resident was not used.
func (r *resident) idleFor(now time.Duration) time.Duration {
	return now - time.Duration(r.used.Load())
}
