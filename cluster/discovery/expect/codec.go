package expect

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waystation/waystation/cluster/identity"
)

// Most bounds --bootstrap-expect.
const Most = 255

// ErrRecord says that a record or a message cannot be read.
var ErrRecord = errors.New("bootstrap record unreadable")

const recordVersion = 1

// Encode lays a proposal out: version u8, cluster id 16 bytes, number of members
// u8, their ids of 16 bytes, ascending.
func (p Proposal) Encode() []byte {
	b := []byte{recordVersion}
	b = append(b, p.Cluster[:]...)
	b = append(b, byte(len(p.Members)))
	for _, n := range p.Members {
		b = append(b, n[:]...)
	}
	return b
}

// ParseProposal reads what Encode wrote, or ErrRecord. It keeps nothing of b.
func ParseProposal(b []byte) (Proposal, error) {
	var p Proposal
	const head = 1 + 16 + 1
	if len(b) < head || b[0] != recordVersion || len(b) != head+16*int(b[head-1]) {
		return p, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	copy(p.Cluster[:], b[1:])
	for rest := b[head:]; len(rest) > 0; rest = rest[16:] {
		p.Members = append(p.Members, identity.NodeID(rest[:16]))
	}
	if !p.valid() {
		return Proposal{}, fmt.Errorf("%w: members not ascending, or not their cluster id", ErrRecord)
	}
	return p, nil
}

// Encode lays a message out: its kind u8, sender and receiver of 16 bytes, the
// length u16 of the proposal, and the proposal.
func (m Message) Encode() []byte {
	b := []byte{byte(m.Kind)}
	b = append(b, m.From[:]...)
	b = append(b, m.To[:]...)
	p := m.Proposal.Encode()
	b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	return append(b, p...)
}

// ParseMessage reads what Encode wrote, or ErrRecord. It keeps nothing of b.
func ParseMessage(b []byte) (Message, error) {
	const head = 1 + 16 + 16 + 2
	if len(b) < head || b[0] < byte(Propose) || b[0] > byte(Promised) || int(binary.BigEndian.Uint16(b[head-2:])) != len(b)-head {
		return Message{}, fmt.Errorf("%w: message of %d bytes", ErrRecord, len(b))
	}
	p, err := ParseProposal(b[head:])
	if err != nil {
		return Message{}, err
	}
	m := Message{Kind: Kind(b[0]), Proposal: p}
	copy(m.From[:], b[1:])
	copy(m.To[:], b[17:])
	return m, nil
}
