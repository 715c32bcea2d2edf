package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// load finds the bounds of all groups: a seek or two for each, however long its log.
func (l *Log) load() error {
	groups, err := l.scanGroups()
	if err != nil {
		return err
	}
	for g, truncated := range groups {
		b, err := l.loadBounds(g, truncated)
		if errors.Is(err, ErrCorrupt) {
			l.hurtBy(g, err)
		} else if err != nil {
			return err
		}
		l.publish(g, b)
	}
	return l.loadLost()
}

// scanGroups returns every group that has any record, with its truncation.
func (l *Log) scanGroups() (map[GroupID]Position, error) {
	groups := map[GroupID]Position{}
	err := scan(l.kv, []byte{prefixGroup}, []byte{prefixGroup + 1}, func(k, v []byte) error {
		if len(k) != groupKeySize {
			return corruptLog(k, errLength)
		}
		g := GroupID(binary.BigEndian.Uint32(k[1:]))
		if k[5] == fieldDamage {
			l.hurtBy(g, damage(k, v))
		}
		if k[5] != fieldTruncated {
			known(groups, g)
			return nil
		}
		b, err := openRecord(k, v, positionSize)
		if err == nil {
			groups[g] = parsePosition(b)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return groups, l.scanEntryGroups(groups)
}

// known adds a group, wherever its truncation stands.
func known(groups map[GroupID]Position, g GroupID) {
	if _, ok := groups[g]; !ok {
		groups[g] = Position{}
	}
}

// scanEntryGroups adds groups that have entries and nothing else, by seeking from one group
// to the next.
func (l *Log) scanEntryGroups(groups map[GroupID]Position) error {
	it, err := l.kv.Iter([]byte{prefixEntry}, []byte{prefixEntry + 1})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		if len(it.Key()) != entryKeySize {
			return errors.Join(corruptLog(it.Key(), errLength), it.Close())
		}
		g := GroupID(binary.BigEndian.Uint32(it.Key()[1:]))
		known(groups, g)
		if g == ^GroupID(0) {
			break
		}
		ok = it.SeekGE(entryKey(g+1, 0, 0))
	}
	return errors.Join(it.Error(), it.Close())
}

// loadLost reads what a store says of frames that nobody knows of.
func (l *Log) loadLost() error {
	key := []byte{prefixLost}
	v, closer, err := l.kv.Get(key)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l.lost = &CorruptError{Store: "log", What: "frames", Err: errors.New(string(v))}
	return closer.Close()
}

// damage is what a store remembers of a group.
func damage(k, v []byte) error {
	g, _, _ := parseGroupKey(k)
	return &CorruptError{Store: "log", What: fmt.Sprintf("group %d", g), Err: errors.New(string(v))}
}

// loadBounds returns what is known of the bounds with an ErrCorrupt as well: the group is damaged then,
// and the others are not.
func (l *Log) loadBounds(g GroupID, truncated Position) (*bounds, error) {
	b := &bounds{truncated: truncated, last: truncated}
	it, err := l.kv.Iter(entryKey(g, truncated.Index+1, 0), entryGroupEnd(g))
	if err != nil {
		return nil, err
	}
	defer func() { _ = it.Close() }() // read-only; Error was asked
	if !it.First() {
		return b, it.Error()
	}
	index, c, err := iterChunk(it)
	if err != nil {
		return b, err
	}
	if want := truncated.Index + 1; index != want {
		return b, corruptLog(entryKey(g, want, 0), fmt.Errorf("%w: the next one is index %d", errMissing, index))
	}
	b.start = c.start
	if !it.Last() {
		return nil, it.Error()
	}
	if index, c, err = iterChunk(it); err != nil {
		return b, err
	}
	b.last = Position{Index: index, Term: c.term}
	b.end = c.start + storedBytes(int(c.size))
	return b, nil
}

func iterChunk(it KVIter) (uint64, chunk, error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return 0, chunk{}, wrapCorrupt(it.Key(), err)
	}
	c, err := parseChunk(it.Key(), v)
	if err != nil {
		return 0, chunk{}, err
	}
	return binary.BigEndian.Uint64(it.Key()[5:]), c, nil
}

// entryGroupEnd is the first key behind all entries of a group.
func entryGroupEnd(g GroupID) []byte {
	if g == ^GroupID(0) {
		return []byte{prefixEntry + 1}
	}
	return entryKey(g+1, 0, 0)
}

// Replicas returns the replica records of this node, tombstones too, by group.
func (l *Log) Replicas() ([]ReplicaMeta, error) {
	var all []ReplicaMeta
	err := scan(l.kv, []byte{prefixGroup}, []byte{prefixGroup + 1}, func(k, v []byte) error {
		if k[5] != fieldReplica {
			return nil
		}
		b, err := openRecord(k, v, replicaSize)
		if err != nil {
			return err
		}
		g := GroupID(binary.BigEndian.Uint32(k[1:]))
		all = append(all, ReplicaMeta{
			Group: g, Replica: ReplicaID(binary.BigEndian.Uint64(b)), State: b[8], Truncated: l.Truncated(g),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read replicas: %w", err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Group < all[j].Group })
	return all, nil
}

// scan visits all records in [lower, upper).
func scan(r KVReader, lower, upper []byte, visit func(k, v []byte) error) error {
	it, err := r.Iter(lower, upper)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = visit(it.Key(), v)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}
