package repository

import (
	"encoding/binary"
	"fmt"
)

// RepoID is a repository's name: the ordering key, 1 to 512 bytes of UTF-8.
type RepoID string

// Seq is a packet's number in its repository: from 1, without gaps, over all
// priorities.
type Seq uint64

// PartitionID is a hash range of repositories, from 0.
type PartitionID uint16

// GroupID is a consumer group's number, given by the cluster and never used again.
type GroupID uint32

// Token is a lease's fencing token: the raft index of the entry that granted it.
// Within a repository and group it only grows; it means nothing without them.
type Token uint64

// Rank is a priority in the order of service: the lower, the sooner. The public
// enum cannot be that order, because its zero value is NORMAL.
type Rank uint8

// The ranks, and how many there are.
const (
	RankHigh Rank = iota
	RankNormal
	RankLow
	Ranks = 3
)

// RankOf maps the public enum (NORMAL 0, HIGH 1, LOW 2) to a rank. What is out
// of range was refused before.
func RankOf(priority uint8) Rank {
	switch priority {
	case 1:
		return RankHigh
	case 2:
		return RankLow
	}
	return RankNormal
}

// Priority is the public enum's value.
func (r Rank) Priority() uint8 {
	switch r {
	case RankHigh:
		return 1
	case RankLow:
		return 2
	}
	return 0
}

// String is the priority's name in metrics and logs.
func (r Rank) String() string {
	switch r {
	case RankHigh:
		return "high"
	case RankNormal:
		return "normal"
	case RankLow:
		return "low"
	}
	return fmt.Sprintf("rank(%d)", uint8(r))
}

// Reason says why a packet is a dead letter.
type Reason uint8

// The reasons. They are stored: never renumber.
const (
	ReasonAttempts  Reason = 1 // failed max_attempts times
	ReasonExpired   Reason = 2 // its time to live passed
	ReasonRejected  Reason = 3 // a worker settled it as dead
	ReasonRetention Reason = 4 // older than the retention, and not settled
	ReasonPoison    Reason = 5 // failed max_attempts times, and no worker lived to say so
	ReasonParked    Reason = 6 // waited behind a dead letter in a group that parks
)

// String is the reason as the API names it.
func (r Reason) String() string {
	switch r {
	case ReasonAttempts:
		return "attempts"
	case ReasonExpired:
		return "expired"
	case ReasonRejected:
		return "rejected"
	case ReasonRetention:
		return "retention"
	case ReasonPoison:
		return "poison"
	case ReasonParked:
		return "parked"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// ReasonOf is the reason that the API names so; 0: there is none.
func ReasonOf(name string) Reason {
	for r := ReasonAttempts; r <= ReasonParked; r++ {
		if r.String() == name {
			return r
		}
	}
	return 0
}

// Ref says where a packet's bytes lie: in the raft log at (Index, Offset), or,
// once that prefix is truncated, in the spill of the run that began at Base.
type Ref struct {
	Index  uint64 // raft index of the entry
	Base   uint32 // offset in the entry at which the packet's run began
	Offset uint32 // offset in the entry at which the packet's bytes begin
	Length uint32 // of the packet's protobuf bytes
	CRC    uint32 // CRC-32C of these bytes
}

func (x *Ref) append(b []byte) []byte {
	b = binary.AppendUvarint(b, x.Index)
	b = binary.AppendUvarint(b, uint64(x.Base))
	b = binary.AppendUvarint(b, uint64(x.Offset))
	b = binary.AppendUvarint(b, uint64(x.Length))
	return binary.LittleEndian.AppendUint32(b, x.CRC)
}

func (x *Ref) decode(d *decoder) {
	*x = Ref{Index: d.uvarint(), Base: uint32(d.uvarint()), Offset: uint32(d.uvarint()), Length: uint32(d.uvarint())}
	x.CRC = d.uint32()
}

// Reader is the partition's applied state, read-only. Implementations return
// values that stay valid until their next call only.
type Reader interface {
	// Get returns the value of key, and whether there is one.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan visits the keys of [lower, upper) in order until visit answers false.
	// visit must not keep its arguments, nor call the Reader.
	Scan(lower, upper []byte, visit func(key, value []byte) bool) error
}

// CorruptError is a record that does not decode: found, named, never served.
type CorruptError struct {
	Key  []byte
	What string
}

// Error names the record's key in hex.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("damaged record %x: %s", e.Key, e.What)
}
