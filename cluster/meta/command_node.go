package meta

import (
	"fmt"

	"github.com/waystation/waystation/cluster/identity"
)

// JoinNode takes a node in, as joining, and gives it a learner of meta. What
// was already taken in under the same boot and life is only found; a node that
// started again before it heard the answer is taken as a start.
//
// The caller has checked that the node means this cluster.
type JoinNode struct{ Node Node }

// StartNode records that a member started, with what it now says of itself.
// The same start reported again only updates that.
type StartNode struct{ Node Node }

// SetNodeState activates, drains, undrains or removes a node. A state that is
// reached is not reached twice.
type SetNodeState struct {
	Node  identity.NodeID
	State NodeState
}

// MaxNodes is how many members a cluster may have at a time.
const MaxNodes = 256

// MaxRemoved is how many removed nodes are remembered. The one that was removed
// first is forgotten then, if no replica of it is: without a record it is still
// refused as no member.
const MaxRemoved = 1024

func (c *JoinNode) kind() uint8     { return kindJoinNode }
func (c *StartNode) kind() uint8    { return kindStartNode }
func (c *SetNodeState) kind() uint8 { return kindSetNodeState }

func (c *JoinNode) append(b []byte) []byte {
	return appendNode(append(append(b, version1), c.Node.ID[:]...), c.Node)
}

func (c *StartNode) append(b []byte) []byte {
	return appendNode(append(append(b, version1), c.Node.ID[:]...), c.Node)
}

func (c *SetNodeState) append(b []byte) []byte {
	return append(append(append(b, version1), c.Node[:]...), byte(c.State))
}

func readSetNodeState(d *decoder) Command {
	return &SetNodeState{Node: d.id(), State: NodeState(d.u8())}
}

func (c *JoinNode) validate() error  { return c.Node.validate() }
func (c *StartNode) validate() error { return c.Node.validate() }

func (c *SetNodeState) validate() error {
	if c.State < NodeActive || c.State > NodeRemoved {
		return fmt.Errorf("%w: node state: %s is none to be set", ErrInvalid, c.State)
	}
	return nil
}
