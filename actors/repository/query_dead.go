package repository

import (
	"bytes"
	"encoding/binary"
)

// DeadLetter is a packet that a group gave up.
type DeadLetter struct {
	Repo     string
	Seq      Seq
	Reason   Reason
	Attempts uint32
	Failures []Failure // the last attempts, oldest first
	AtMs     int64
	// RedriveOf is the dead letter that it was before it was redriven; 0: it never was.
	RedriveOf Seq
	Ref       Ref
}

// Error is what the last attempt failed with.
func (x *DeadLetter) Error() string { return failures(x.Failures).last() }

// deadRange bounds dead letters below prefix, of one repository if repo is given,
// behind a cursor if there is one.
func deadRange(prefix, repo, after []byte) (lower, upper []byte) {
	lower, upper = bytes.Clone(prefix), keyAfter(prefix)
	if len(repo) > 0 {
		lower = appendRepo(lower, repo)
		upper = keyAfter(lower)
	}
	if len(after) > 0 {
		if from := append(append(bytes.Clone(prefix), after...), 0); bytes.Compare(from, lower) > 0 {
			lower = from
		}
	}
	return lower, upper
}

// DeadLetters lists a group's dead letters, of one repository if repo is given,
// by repository and number. cursor is nil at first; next is nil at the end.
func (m *Machine) DeadLetters(id GroupID, repo, cursor []byte, limit int) (dead []DeadLetter, next []byte, err error) {
	prefix := bytes.Clone(appendU32(m.key(tableDead), uint32(id)))
	lower, upper := deadRange(prefix, repo, cursor)
	var failed error
	err = m.base.Scan(lower, upper, func(k, v []byte) bool {
		if len(dead) == limit {
			return false
		}
		x, ok := decodeDead(k[len(prefix):], v)
		if !ok {
			failed = &CorruptError{bytes.Clone(k), "dead letter"}
			return false
		}
		dead = append(dead, x)
		next = append(next[:0], k[len(prefix):]...)
		return true
	})
	if failed != nil {
		return dead, nil, failed
	}
	if len(dead) < limit {
		next = nil
	}
	return dead, next, err
}

func decodeDead(id, v []byte) (DeadLetter, bool) {
	name, rest, ok := splitRepo(id)
	var x deadRecord
	if !ok || len(rest) != 8 || x.decode(v) != nil {
		return DeadLetter{}, false
	}
	return DeadLetter{
		Repo: string(name), Seq: Seq(binary.BigEndian.Uint64(rest)), Reason: x.reason,
		Attempts: x.attempts, Failures: x.failures, AtMs: x.atMs, RedriveOf: x.of, Ref: x.ref,
	}, true
}

// Dead looks one dead letter up.
func (m *Machine) Dead(id GroupID, repo []byte, seq Seq) (DeadLetter, bool, error) {
	key := cloneKey(m.keyDead(id, string(repo), seq))
	v, ok, err := m.base.Get(key)
	if err != nil || !ok {
		return DeadLetter{}, false, err
	}
	x, ok := decodeDead(key[7:], v)
	if !ok {
		return x, false, &CorruptError{key, "dead letter"}
	}
	return x, true, nil
}
