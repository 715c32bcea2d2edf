package expect

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
)

func TestGoldenPromise(t *testing.T) {
	p := ProposalOf([]identity.NodeID{{0: 2}, {0: 1}})
	const want = "014b5f56466f1b7e481fbeaf956fd198e4" + "02" + "01000000000000000000000000000000" + "02000000000000000000000000000000"
	if got := hex.EncodeToString(p.Encode()); got != want {
		t.Fatalf("record %s, want %s", got, want)
	}
	m := Message{Kind: Promised, From: identity.NodeID{0: 1}, To: identity.NodeID{0: 2}, Proposal: p}
	back, err := ParseMessage(m.Encode())
	if err != nil || back.Kind != m.Kind || back.From != m.From || back.To != m.To || !back.Proposal.Equal(p) {
		t.Fatal(back, err)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(Message{Kind: Propose, From: nodeID(0), To: nodeID(1), Proposal: ProposalOf([]identity.NodeID{nodeID(0), nodeID(1)})}.Encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(m.Encode(), b) {
			t.Fatalf("%x came back as %x", b, m.Encode())
		}
	})
}
