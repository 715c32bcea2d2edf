// Package copies looks at replicas as a whole, on all nodes: it compares them
// with each other, and streams one of them for a backup.
//
// Replicas are compared right after the same entry. The node that is asked picks
// one a little ahead of what is applied, has every replica wait for it, and lets
// the leader propose entries without effect if no others come. A replica that was
// too fast is no failure: the next try picks an entry further ahead.
package copies
