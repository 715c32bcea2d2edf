package replica

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/internal/invariant"
	"github.com/waystation/waystation/storage"
)

// logView is the log as raft sees it: what was handed out for writing, from
// the cache or else from the disk. raft looks for what is still being written
// in its own memory first, so that it never asks here for an entry that is on
// its way.
type logView struct {
	group     storage.GroupID
	reader    LogReader
	cache     Cache
	truncated storage.Position
	// written is the last index that was handed out for writing. It counts the
	// stale tail, see the package documentation.
	written uint64
	// confirmed is used only where invariant.StaleTail is planted.
	confirmed uint64
	start     Start
	// snapshot is what a replica that lacks what was cut off is to be sent.
	snapshot func() *pb.Snapshot
	// fault is the last error of the disk: raft only panics with its text.
	fault error
}

var _ raft.Storage = (*logView)(nil)

func (l *logView) InitialState() (*pb.HardState, *pb.ConfState, error) {
	hs := l.start.HardState
	return &pb.HardState{Term: &hs.Term, Vote: &hs.Vote, Commit: &hs.Commit}, l.start.Conf.State(), nil
}

func (l *logView) FirstIndex() (uint64, error) { return l.truncated.Index + 1, nil }

func (l *logView) LastIndex() (uint64, error) { return l.written, nil }

func (l *logView) Term(index uint64) (uint64, error) {
	switch {
	case index == l.truncated.Index:
		return l.truncated.Term, nil
	case index < l.truncated.Index:
		return 0, raft.ErrCompacted
	case index > l.written:
		return 0, raft.ErrUnavailable
	case index == l.start.Last.Index && index == l.written:
		return l.start.Last.Term, nil
	}
	if t, ok := l.cache.Term(index); ok {
		return t, nil
	}
	t, err := l.reader.Term(l.group, index)
	return t, l.readErr("read term of entry", index, err)
}

func (l *logView) Entries(lo, hi, maxBytes uint64) ([]*pb.Entry, error) {
	if lo <= l.truncated.Index {
		return nil, raft.ErrCompacted
	}
	if hi > l.written+1 {
		return nil, raft.ErrUnavailable
	}
	if ents := l.cache.Slice(lo, hi, maxBytes); ents != nil {
		return ents, nil
	}
	if first := l.cache.First(); first > lo {
		hi = min(hi, first)
	}
	ents, err := l.reader.Entries(l.group, lo, hi, maxBytes)
	if err != nil {
		return nil, l.readErr("read entry", lo, err)
	}
	return toRaft(ents), nil
}

func (l *logView) Snapshot() (*pb.Snapshot, error) {
	if s := l.snapshot(); s != nil {
		return s, nil
	}
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// install puts a snapshot in the place of the whole log.
func (l *logView) install(to storage.Position) {
	l.cache.Clear()
	l.truncated, l.written = to, to.Index
	l.start.Last = storage.Position{}
}

// readErr maps the storage's sentinels to raft's, which compares with ==.
// What was cut off while it was read must be ErrCompacted: ErrUnavailable
// makes raft panic. Anything else makes it panic as well, and rightly: the log
// cannot be read.
func (l *logView) readErr(verb string, index uint64, err error) error {
	switch {
	case err == nil:
		return nil
	case invariant.Broken(invariant.Unavailable) && errors.Is(err, storage.ErrCompacted):
		return raft.ErrUnavailable
	case errors.Is(err, storage.ErrCompacted), index <= l.truncated.Index:
		return raft.ErrCompacted
	default:
		l.fault = fmt.Errorf("%s %d of group %d: %w", verb, index, l.group, err)
		return l.fault
	}
}

// append takes over entries that are handed out for writing and returns the
// range of written entries that they overwrite; from is 0 if there is none.
func (l *logView) append(ents []*pb.Entry) (from, to uint64) {
	if len(ents) == 0 {
		return 0, 0
	}
	if i := ents[0].GetIndex(); i <= l.staleTo() {
		from, to = i, l.staleTo()
	}
	l.cache.Put(ents)
	l.written = ents[len(ents)-1].GetIndex()
	// The term remembered for the last entry found at start is only good as
	// long as that entry is the last one.
	l.start.Last = storage.Position{}
	return from, to
}

// toRaft converts entries read from disk. Their payloads are shared.
func toRaft(ents []storage.Entry) []*pb.Entry {
	type cell struct {
		e           pb.Entry
		term, index uint64
		typ         pb.EntryType
	}
	cells := make([]cell, len(ents))
	out := make([]*pb.Entry, len(ents))
	for i := range ents {
		c := &cells[i]
		c.term, c.index, c.typ = ents[i].Term, ents[i].Index, pb.EntryType(ents[i].Type)
		c.e.Term, c.e.Index, c.e.Type, c.e.Data = &c.term, &c.index, &c.typ, ents[i].Data
		out[i] = &c.e
	}
	return out
}

// fromRaft converts entries for writing or applying. Their payloads are shared
// with raft and the cache.
func fromRaft(ents []*pb.Entry) []storage.Entry {
	out := make([]storage.Entry, len(ents))
	for i, e := range ents {
		out[i] = storage.Entry{Index: e.GetIndex(), Term: e.GetTerm(), Type: uint8(e.GetType()), Data: e.GetData()}
	}
	return out
}
