package cluster

import (
	"fmt"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/messages/envelope"
	"github.com/waystation/waystation/storage"
)

// Copy is what a node's stores hold of a group while no engine runs on them.
type Copy struct {
	Group   storage.GroupID
	Replica storage.ReplicaID
	// Applied is the last entry whose effects are in the state, Commit the last one
	// that this replica knows to be committed.
	Applied, Commit uint64
	// Truncated and Last bound the log: entries (Truncated, Last] are there. Those
	// behind Commit may have been committed by others.
	Truncated, Last storage.Position
	Term            uint64
	// Conf is the configuration as of Commit.
	Conf replica.Conf
	// TimeMs is log time, in milliseconds since the Unix epoch, of the last entry
	// that has one: about when this replica last heard of its leader. 0 if the log
	// has no such entry.
	TimeMs int64
	// Quarantined says why the replica was quarantined while it ran, nothing if it
	// was not: its records may be damaged.
	Quarantined string
}

// FindCopy returns the copy of group g that lies in log and in the state that
// applied reads. Nothing is changed. ErrNoGroup says that there is none, or that
// it never got anything; ErrQuarantined, that it cannot be relied on.
func FindCopy(log *storage.Log, g storage.GroupID, applied func() (uint64, []byte, error)) (Copy, error) {
	f, err := find(log, g, applied)
	if err != nil {
		return Copy{}, fmt.Errorf("copy of group %d: %w", g, quarantine(err))
	}
	if !f.Recorded || f.Tombstone {
		return Copy{}, fmt.Errorf("copy of group %d: %w", g, ErrNoGroup)
	}
	s, err := replica.Reconcile(f.Replica, f)
	if err != nil {
		return Copy{}, fmt.Errorf("copy of group %d: %w", g, err)
	}
	if s.Conf.Empty() {
		return Copy{}, fmt.Errorf("copy of group %d: nothing came yet: %w", g, ErrNoGroup)
	}
	why, err := quarantined(log, g, f.Replica)
	if err != nil {
		return Copy{}, fmt.Errorf("copy of group %d: %w", g, quarantine(err))
	}
	c := Copy{
		Quarantined: why, Group: g, Replica: f.Replica, Applied: s.Applied, Commit: s.HardState.Commit, Truncated: s.Truncated, Last: s.Last,
		Term: max(s.HardState.Term, s.Last.Term), Conf: s.Conf,
	}
	if c.Last.Index < c.Truncated.Index {
		c.Last = c.Truncated
	}
	if c.TimeMs, err = c.lastTime(log); err != nil {
		return Copy{}, err
	}
	err = c.Each(log, c.follow)
	return c, err
}

// Each visits the entries that the state lacks, committed or not.
func (c Copy) Each(log *storage.Log, visit func(storage.Entry) error) error {
	for next := c.Applied + 1; next <= c.Last.Index; {
		ents, err := log.Entries(c.Group, next, c.Last.Index+1, replayBytes)
		if err != nil {
			return fmt.Errorf("copy of group %d: %w", c.Group, quarantine(err))
		}
		for _, e := range ents {
			if err := visit(e); err != nil {
				return err
			}
		}
		next += uint64(len(ents))
	}
	return nil
}

// follow changes the configuration as an entry that is known to be committed says.
func (c *Copy) follow(e storage.Entry) error {
	if e.Index > c.Commit || !replica.IsConfChange(&e) {
		return nil
	}
	change, err := replica.ConfChange(&e)
	if err != nil {
		return fmt.Errorf("copy of group %d: %w", c.Group, err)
	}
	c.Conf, _ = c.Conf.Next(change) // one that is refused changes nothing
	return nil
}

// Better says whether c is to be preferred to o: one that was not quarantined, then
// the one that has more.
func (c Copy) Better(o Copy) bool {
	if whole := c.Quarantined == ""; whole != (o.Quarantined == "") {
		return whole
	}
	if c.Last.Term != o.Last.Term {
		return c.Last.Term > o.Last.Term
	}
	return c.Last.Index > o.Last.Index
}

// maxTimeless bounds the entries without a time that lastTime looks at.
const maxTimeless = 256

func (c Copy) lastTime(log *storage.Log) (int64, error) {
	for i, n := c.Last.Index, 0; i > c.Truncated.Index && n < maxTimeless; i, n = i-1, n+1 {
		ents, err := log.Entries(c.Group, i, i+1, 0)
		if err != nil {
			return 0, fmt.Errorf("copy of group %d: %w", c.Group, quarantine(err))
		}
		if replica.IsConfChange(&ents[0]) {
			continue
		}
		if env, _, err := envelope.Parse(ents[0].Data); err == nil {
			return env.TimeMs, nil
		}
	}
	return 0, nil
}

// replayBytes is how much of the log is read at a time, replaySpill how much is
// spilled.
const (
	replayBytes = 4 << 20
	replaySpill = 64 << 20
)

// Replay applies to sm, whose state is a copy of c's, all entries of c's log that
// it lacks, committed or not, and spills what the state then refers to: it needs
// the log no more. Changes of the group's replicas are passed over. It blocks for
// the disk.
func (c Copy) Replay(log *storage.Log, sm StateMachine) error {
	err := c.Each(log, func(e storage.Entry) error {
		if err := guarded(func() error { return c.replayOne(e, sm) }); err != nil {
			return fmt.Errorf("replay group %d: apply entry %d: %w", c.Group, e.Index, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	read := func(index uint64) ([]byte, error) {
		ents, err := log.Entries(c.Group, index, index+1, 0)
		if err != nil {
			return nil, err
		}
		return ents[0].Data, nil
	}
	for {
		done, err := sm.Spill(c.Last.Index, replaySpill, read)
		if err != nil {
			return fmt.Errorf("replay group %d: spill: %w", c.Group, quarantine(err))
		}
		if done {
			return nil
		}
	}
}

func (c Copy) replayOne(e storage.Entry, sm StateMachine) error {
	if replica.IsConfChange(&e) {
		return sm.ApplyConf(e, c.Conf.Marshal())
	}
	_, err := sm.Apply(e)
	return err
}

// IsChange says whether an entry changes a group's replicas: it is none of its
// state machine's.
func IsChange(e storage.Entry) bool { return replica.IsConfChange(&e) }
