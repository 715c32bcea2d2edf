// Package envelope is the header in front of every entry of every raft group.
//
// Layout, all integers big endian, Size bytes:
//
//	offset  size  field
//	     0     1  version: Version1
//	     1     1  kind: the owner of the body decides
//	     2     8  term in which the entry was proposed
//	    10     8  proposal, unique within the term and the proposing replica
//	    18     8  log time, milliseconds since the Unix epoch, signed
//	    26        body
//
// It has a fixed size so that the engine can fill it in after the body has been
// built behind it, without a copy. Term and proposal are what a waiter is keyed
// by; Apply voids an entry whose term is not the one it was committed in.
package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Size is the number of bytes that an Envelope takes.
const Size = 26

// Version1 is the only version so far. A replica that meets another one stops;
// it never skips an entry.
const Version1 = 1

var (
	// ErrShort says that an entry has fewer than Size bytes.
	ErrShort = errors.New("entry shorter than its envelope")
	// ErrVersion says that an entry was written by a newer Waystation, or is damaged.
	ErrVersion = errors.New("unknown envelope version")
)

// Envelope is the decoded header.
type Envelope struct {
	// Version is Version1.
	Version uint8
	// Kind says what the body is; its values belong to the body's owner.
	Kind uint8
	// Term is the raft term in which the entry was proposed.
	Term uint64
	// Proposal is unique within Term and the replica that proposed.
	Proposal uint64
	// TimeMs is log time in milliseconds since the Unix epoch.
	TimeMs int64
}

// Put writes e into dst[:Size]. It panics if dst is shorter.
func (e Envelope) Put(dst []byte) {
	_ = dst[Size-1]
	dst[0] = e.Version
	dst[1] = e.Kind
	binary.BigEndian.PutUint64(dst[2:], e.Term)
	binary.BigEndian.PutUint64(dst[10:], e.Proposal)
	binary.BigEndian.PutUint64(dst[18:], uint64(e.TimeMs))
}

// Parse splits data into its envelope and its body. The body aliases data. The
// error wraps ErrShort or ErrVersion; with ErrVersion only Version is set.
func Parse(data []byte) (Envelope, []byte, error) {
	if len(data) < Size {
		return Envelope{}, nil, fmt.Errorf("parse envelope of %d bytes: %w", len(data), ErrShort)
	}
	if data[0] != Version1 {
		return Envelope{Version: data[0]}, nil, fmt.Errorf("parse envelope version %d: %w", data[0], ErrVersion)
	}
	return Envelope{
		Version:  data[0],
		Kind:     data[1],
		Term:     binary.BigEndian.Uint64(data[2:]),
		Proposal: binary.BigEndian.Uint64(data[10:]),
		TimeMs:   int64(binary.BigEndian.Uint64(data[18:])),
	}, data[Size:], nil
}
