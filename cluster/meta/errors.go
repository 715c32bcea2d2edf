package meta

import "errors"

var (
	// ErrNotMade refuses a command before the cluster is made.
	ErrNotMade = errors.New("the cluster is not made yet")
	// ErrMade refuses to make a cluster a second time, as another one.
	ErrMade = errors.New("the cluster is made already")
	// ErrCopy refuses a node whose boot counter was used before: its data
	// folder is a copy, or was put back from an old backup.
	ErrCopy = errors.New("data folder is a copy or was rolled back")
	// ErrTooMany refuses what would exceed a limit.
	ErrTooMany = errors.New("too many")
	// ErrNameTaken refuses a node's name that another one has.
	ErrNameTaken = errors.New("node name is taken")
	// ErrRemoved refuses a node that was removed: it never comes back under its
	// id, because the cluster went on without its votes.
	ErrRemoved = errors.New("node was removed from the cluster")
	// ErrNoNode refuses a node that never joined.
	ErrNoNode = errors.New("node is not a member of the cluster")
	// ErrFeature refuses a program that does not run at the cluster's feature
	// level, and a level that some node's program does not run at.
	ErrFeature = errors.New("incompatible feature level")
	// ErrState refuses to bring a node into a state that its present one does
	// not lead to.
	ErrState = errors.New("node is in another state")
	// ErrStale refuses what was decided on a map that has changed since, or by a
	// leader that another one has followed.
	ErrStale = errors.New("the map has changed meanwhile")
	// ErrMap refuses a map that no cluster may have.
	ErrMap = errors.New("invalid map")
	// ErrNoReplica refuses what is said of a replica that meta does not know.
	ErrNoReplica = errors.New("no such replica")
	// ErrLastCopies refuses to give up a replica, or to remove a node, without
	// which the rest is no majority.
	ErrLastCopies = errors.New("the other copies are no majority")
	// ErrGroupThere refuses to make a consumer group whose name another one has.
	ErrGroupThere = errors.New("there is a group of that name")
	// ErrNoGroup refuses to change a consumer group that there is not.
	ErrNoGroup = errors.New("there is no such group")
	// ErrGroupChanged refuses what was decided on settings that have changed since.
	ErrGroupChanged = errors.New("the group's settings have changed meanwhile")
	// ErrVoid is the result of a command that came into the log in another term
	// than it was proposed in.
	ErrVoid = errors.New("command of another term")
	// ErrInvalid refuses a command that is wrong by itself.
	ErrInvalid = errors.New("invalid command")
)

// codes number the refusals in an encoded Result: the number is the place in
// the list, from 1. It grows at its end only.
func codes() []error {
	return []error{
		ErrNotMade, ErrMade, ErrCopy, ErrTooMany, ErrNameTaken, ErrRemoved, ErrNoNode, ErrFeature, ErrState,
		ErrStale, ErrMap, ErrNoReplica, ErrLastCopies, ErrVoid, ErrInvalid, ErrCommand,
		ErrGroupThere, ErrNoGroup, ErrGroupChanged,
	}
}

// codeOther is a refusal that is none of the list.
const codeOther = 255

func codeOf(err error) uint8 {
	if err == nil {
		return 0
	}
	for i, known := range codes() {
		if errors.Is(err, known) {
			return uint8(i + 1)
		}
	}
	return codeOther
}

// refusal is an error that came from another node: the words that were used
// there, and what they were about.
type refusal struct {
	text string
	is   error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.is }

func errorOf(code uint8, text string) error {
	if code == 0 {
		return nil
	}
	if known := codes(); int(code) <= len(known) {
		return &refusal{text, known[code-1]}
	}
	return errors.New(text)
}
