package replica

import (
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/entrycache"
	"github.com/waystation/waystation/storage"
)

// machine is a replica with its disk and the jobs that nobody did yet.
type machine struct {
	id      storage.ReplicaID
	disk    *disk
	core    *Replica
	state   state
	staged  *state
	appends []*AppendJob
	applies []*ApplyJob
	snaps   []*pb.Message
	reads   uint64
	late    bool // commits
}

// state is what was applied.
type state struct {
	words   []string
	applied storage.Position
	conf    []byte
}

func newMachine(id storage.ReplicaID) *machine {
	return &machine{id: id, disk: &disk{entries: map[uint64]storage.Entry{}}}
}

func (m *machine) start(cacheBytes int64, join bool) error {
	m.appends, m.applies, m.snaps = nil, nil, nil
	found := Found{
		Recorded: m.disk.recorded, Replica: m.id, Truncated: m.disk.truncated,
		HardState: m.disk.hard, Last: m.disk.last(), Applied: m.state.applied.Index, Conf: m.state.conf,
		Install: m.disk.marker, Join: join,
	}
	start, err := Reconcile(m.id, found)
	if err != nil {
		return err
	}
	if start.Fresh {
		m.disk.recorded, m.disk.truncated, m.disk.hard = true, start.Truncated, start.HardState
		if !join { // these groups are made with several voters at once
			start.Conf, err = ParseConf(m.state.conf)
		}
	}
	if start.Redo {
		m.disk.reset(start.Truncated, start.HardState)
	}
	if start.Drop {
		m.disk.marker = storage.Position{}
	}
	m.staged = nil
	if err != nil {
		return err
	}
	c := DefaultConfig()
	c.ID, c.Start, c.Log, c.Cache, c.LateCommits = m.id, start, m.disk, entrycache.New(cacheBytes), m.late
	m.core, err = New(c)
	return err
}
