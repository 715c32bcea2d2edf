package replica

import (
	"github.com/waystation/waystation/storage"
)

// disk is a log as stupid as a disk: it does what the jobs say, entry by
// entry, so that a tail which no job deletes stays there.
type disk struct {
	entries   map[uint64]storage.Entry
	hard      storage.HardState
	recorded  bool
	truncated storage.Position
	marker    storage.Position
	reads     int
	fail      error
}

func (d *disk) Entries(_ storage.GroupID, lo, hi, maxBytes uint64) ([]storage.Entry, error) {
	if d.fail != nil {
		return nil, d.fail
	}
	d.reads++
	var out []storage.Entry
	size := uint64(0)
	for i := lo; i < hi; i++ {
		e, ok := d.entries[i]
		if !ok {
			return nil, storage.ErrUnavailable
		}
		if size += uint64(len(e.Data)); size > maxBytes && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

func (d *disk) Term(_ storage.GroupID, index uint64) (uint64, error) {
	if e, ok := d.entries[index]; ok {
		return e.Term, nil
	}
	return 0, storage.ErrUnavailable
}

func (d *disk) write(j *AppendJob) {
	for i := j.StaleFrom; j.StaleFrom != 0 && i <= j.StaleTo; i++ {
		delete(d.entries, i)
	}
	for _, e := range j.Entries {
		d.entries[e.Index] = e
	}
	if j.HardState != nil {
		d.hard = *j.HardState
	}
}

func (d *disk) truncate(j TruncateJob) {
	for i := range d.entries {
		if i <= j.To.Index {
			delete(d.entries, i)
		}
	}
	d.truncated = j.To
}

func (d *disk) reset(to storage.Position, hard storage.HardState) {
	clear(d.entries)
	d.truncated, d.hard, d.marker = to, hard, storage.Position{}
}

func (d *disk) last() storage.Position {
	last := d.truncated
	for i, e := range d.entries {
		if i > last.Index {
			last = storage.Position{Index: i, Term: e.Term}
		}
	}
	return last
}
