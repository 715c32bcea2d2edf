package transport

import (
	"errors"
	"fmt"
)

// Why a node does not talk to another. A [Refusal] wraps one of them.
var (
	// ErrAnotherCluster says that the peer belongs to another cluster.
	ErrAnotherCluster = errors.New("another cluster")
	// ErrWrongNode says that another node than the one meant was reached.
	ErrWrongNode = errors.New("another node than dialled")
	// ErrIncompatible says that the builds have no protocol version in common, or
	// that Admit found their formats or feature levels incompatible.
	ErrIncompatible = errors.New("incompatible version")
	// ErrRemoved says that the node is no longer part of the cluster.
	ErrRemoved = errors.New("removed node")
	// ErrCopied says that two data folders have the same node id: one is a copy,
	// or was put back from a backup.
	ErrCopied = errors.New("copied data folder")
	// ErrOneself says that a node reached itself.
	ErrOneself = errors.New("oneself")
	// ErrNotMember says that a side belongs to no cluster yet.
	ErrNotMember = errors.New("not in a cluster yet")
	// ErrBusy says that an earlier connection still has to end.
	ErrBusy = errors.New("earlier connection still open")
	// ErrRefused stands for all other reasons, those of Admit above all.
	ErrRefused = errors.New("refused")
)

// RefusalCode is a reason on the wire. Numbers are never used again.
type RefusalCode uint32

const (
	refusedCluster      RefusalCode = 1
	refusedNode         RefusalCode = 2
	refusedIncompatible RefusalCode = 3
	refusedRemoved      RefusalCode = 4
	refusedCopied       RefusalCode = 5
	refusedOneself      RefusalCode = 6
	refusedNotMember    RefusalCode = 7
	refusedBusy         RefusalCode = 8
	refusedOther        RefusalCode = 9
)

// reasons has the error of each code.
func reasons() [refusedOther + 1]error {
	return [...]error{
		refusedCluster: ErrAnotherCluster, refusedNode: ErrWrongNode, refusedIncompatible: ErrIncompatible,
		refusedRemoved: ErrRemoved, refusedCopied: ErrCopied, refusedOneself: ErrOneself,
		refusedNotMember: ErrNotMember, refusedBusy: ErrBusy, refusedOther: ErrRefused,
	}
}

// Refusal is the answer to a hello that was not accepted, by this node or by
// its peer.
type Refusal struct {
	Code RefusalCode
	Text string
	// Theirs says that the peer refused.
	Theirs bool
}

// Error says who refused and why.
func (r *Refusal) Error() string {
	who := "refused"
	if r.Theirs {
		who = "refused by peer"
	}
	return fmt.Sprintf("%s: %s", who, r.Text)
}

// Unwrap returns the reason: ErrAnotherCluster and the like.
func (r *Refusal) Unwrap() error {
	if r.Code == 0 || r.Code > refusedOther {
		return ErrRefused
	}
	return reasons()[r.Code]
}

// refusal makes a refusal out of a reason, with the code of the first sentinel
// that it wraps.
func refusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	for code, reason := range reasons() {
		if reason != nil && errors.Is(err, reason) {
			return &Refusal{Code: RefusalCode(code), Text: err.Error()}
		}
	}
	return &Refusal{Code: refusedOther, Text: err.Error()}
}
