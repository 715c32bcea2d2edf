// Package identity tells data folders apart. A folder gets a random node id
// when it is first used, and counts its starts: the counter is raised and
// synced before anything else happens. Meta records each node's counter, so
// that a copy of a folder, or one put back from an old backup, is found out
// when it comes with a counter that was used before.
//
// The id and the counter are one record in `log`, which holds all else that a
// node may not forget; a folder whose log is lost has no identity left either,
// and must not have one: its votes are gone.
package identity

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/waystation/waystation/storage"
)

// NodeID names a data folder.
type NodeID [16]byte

// String returns the id as 32 hexadecimal digits.
func (n NodeID) String() string { return hex.EncodeToString(n[:]) }

// IsZero says that there is no id.
func (n NodeID) IsZero() bool { return n == NodeID{} }

// ParseNodeID reads what String wrote.
func ParseNodeID(s string) (NodeID, error) {
	var n NodeID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(n) {
		return n, fmt.Errorf("parse node id %q: not %d hexadecimal digits", s, 2*len(n))
	}
	copy(n[:], b)
	if n.IsZero() {
		return n, fmt.Errorf("parse node id %q: zero", s)
	}
	return n, nil
}

// Identity is a data folder in one of its lives.
type Identity struct {
	Node NodeID
	// Boot counts the starts of this folder, from 1.
	Boot uint64
	// Life is random in each start. It tells a start that is reported twice
	// from two starts with the same counter.
	Life uint64
}

// ErrRecord says that the identity record cannot be read.
var ErrRecord = errors.New("identity record unreadable")

const (
	version1   = 1
	recordSize = 1 + 16 + 8 + 8
)

// key of the record among the node's own ones in `log`.
func key() []byte { return []byte("identity") }

// Start begins a life of the data folder that log belongs to: it makes an
// identity or raises its counter, with a sync. random is crypto/rand.Reader,
// or a seeded source in a simulation.
func Start(log *storage.Log, random io.Reader) (Identity, error) {
	id, err := Load(log)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		if _, err := io.ReadFull(random, id.Node[:]); err != nil {
			return Identity{}, fmt.Errorf("make node id: %w", err)
		}
	case err != nil:
		return Identity{}, err
	}
	id.Boot++
	var life [8]byte
	if _, err := io.ReadFull(random, life[:]); err != nil {
		return Identity{}, fmt.Errorf("make life number: %w", err)
	}
	id.Life = binary.BigEndian.Uint64(life[:])
	batch := log.NewBatch()
	batch.PutNode(key(), id.append(nil))
	if err := batch.Commit(true); err != nil {
		return Identity{}, fmt.Errorf("raise boot counter to %d: %w", id.Boot, err)
	}
	return id, nil
}

// Keep writes an identity, with a sync, into the log that takes the place of the
// one it was loaded from.
func Keep(log *storage.Log, id Identity) error {
	batch := log.NewBatch()
	batch.PutNode(key(), id.append(nil))
	if err := batch.Commit(true); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	return nil
}

// Load returns the identity as the last start left it, or
// storage.ErrNotFound for a folder that was never used.
func Load(log *storage.Log) (Identity, error) {
	b, err := log.Node(key())
	if err != nil {
		return Identity{}, fmt.Errorf("read identity: %w", err)
	}
	return parse(b)
}

// append lays the record out: version u8, node id 16 bytes, boot u64, life
// u64, all big endian.
func (i Identity) append(b []byte) []byte {
	b = append(b, version1)
	b = append(b, i.Node[:]...)
	b = binary.BigEndian.AppendUint64(b, i.Boot)
	return binary.BigEndian.AppendUint64(b, i.Life)
}

func parse(b []byte) (Identity, error) {
	if len(b) != recordSize || b[0] != version1 {
		return Identity{}, fmt.Errorf("%w: %d bytes %x", ErrRecord, len(b), b)
	}
	i := Identity{Boot: binary.BigEndian.Uint64(b[17:]), Life: binary.BigEndian.Uint64(b[25:])}
	copy(i.Node[:], b[1:17])
	if i.Node.IsZero() || i.Boot == 0 {
		return Identity{}, fmt.Errorf("%w: zero id or counter", ErrRecord)
	}
	return i, nil
}
