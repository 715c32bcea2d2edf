// Package mover brings one raft group to where the map wants it. It runs where
// the group's leader is: [Mover.Plan] is given what meta wants (the view), what
// is so (the group's configuration), how far each replica is, and answers with
// at most one step. The caller carries it out, says what became of it
// ([Mover.Done]), and asks again, each 200 ms or so. The package has no clock
// and no goroutine; a Mover keeps in mind when it saw which replica active, the
// step that is under way, and when it last tried to hand the leadership over.
//
// A change is under way until it is seen in the configuration; one whose
// outcome is not known, until the term is over. Else this leader could report
// that a replica is out, while the next one finds the change that brings it in
// in its log.
//
// # The steps, in this order
//
//   - Report. Nothing is changed before meta has taken a report of the wish's
//     present version in the leader's own term: package meta says why. What
//     left the map and is out of the configuration is reported too, and that
//     all is as it should be.
//   - Add what is wanted and not there, as a learner, one at a time.
//   - Change the voters, in one joint step: those that caught up come in, as
//     many of those that should go leave. Not all of them need to be ready: one
//     that never catches up holds up itself and nobody else. The number of voters
//     stays odd.
//   - Remove learners that are not wanted.
//   - Hand the leadership over to the replica that should lead, or, if this one
//     should not, to any.
//
// # What it never does
//
// It makes no step after which fewer voters live than a majority, of the
// old configuration or of the new one. It never takes itself out while it leads:
// it hands over first, and where none of the next voters votes yet, it stays in
// beside them until one of them leads. It never removes a voter to make room
// for one that is not ready, however dead the old one may be.
//
// A replica lives if it was seen active within Window. Raft clears that mark at
// every election timeout, so that one look may always miss it.
package mover
