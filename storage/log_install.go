package storage

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// Install marks that a snapshot is being put in the place of a group's state: from before
// State.Install until the log was reset to the snapshot's position.
type Install struct {
	Group   GroupID
	Replica ReplicaID
	To      Position // the snapshot's last entry
}

const installSize = 8 + positionSize

// PutInstall writes the marker of an install. There is one a group; a later one replaces it.
func (b *LogBatch) PutInstall(i Install) {
	key, value := b.kv.Set(groupKeySize, installSize)
	putGroupKey(key, i.Group, fieldInstall)
	binary.BigEndian.PutUint64(value, uint64(i.Replica))
	putPosition(value[8:], i.To)
	b.draft(i.Group)
}

// DropInstall removes the marker of an install that did not happen.
func (b *LogBatch) DropInstall(g GroupID) { b.kv.Delete(groupKey(g, fieldInstall)) }

// Reset lets a group's log go on behind a snapshot: it deletes all entries, those behind the
// snapshot too, sets truncation and hard state, and removes the marker of the install.
func (b *LogBatch) Reset(g GroupID, to Position, hs HardState) {
	d := b.draft(g)
	b.kv.DeleteRange(entryKey(g, 0, 0), entryGroupEnd(g))
	b.putTruncated(g, to)
	b.SetHardState(g, hs)
	b.DropInstall(g)
	d.bounds = bounds{truncated: to, last: to, start: d.end, end: d.end}
	d.from, d.appended, d.reset = 0, d.appended[:0], true
}

// DropGroup deletes all that the log has of a group: entries, hard state, truncation, the
// marker of an install, what is known of damage. The replica record stays, as the tombstone that it should have become
// in the same batch or before.
func (b *LogBatch) DropGroup(g GroupID) {
	b.kv.DeleteRange(entryKey(g, 0, 0), entryGroupEnd(g))
	b.kv.Delete(groupKey(g, fieldHardState))
	b.kv.Delete(groupKey(g, fieldTruncated))
	b.DropInstall(g)
	b.kv.Delete(groupKey(g, fieldDamage))
	*b.draft(g) = draft{reset: true, dropped: true}
}

// Installs returns the markers of installs that were begun and not ended, by group.
func (l *Log) Installs() ([]Install, error) {
	var all []Install
	err := scan(l.kv, []byte{prefixGroup}, []byte{prefixGroup + 1}, func(k, v []byte) error {
		if k[5] != fieldInstall {
			return nil
		}
		b, err := openRecord(k, v, installSize)
		if err != nil {
			return err
		}
		all = append(all, Install{
			Group:   GroupID(binary.BigEndian.Uint32(k[1:])),
			Replica: ReplicaID(binary.BigEndian.Uint64(b)), To: parsePosition(b[8:]),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read installs: %w", err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Group < all[j].Group })
	return all, nil
}
