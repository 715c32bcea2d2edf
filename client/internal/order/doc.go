// Package order decides, for one repository at a time, what a producer sends
// next: which packet, under which position, and what an answer or the loss of a
// connection means for it. It has no goroutine, no clock and no IO.
//
// # States of a Lane
//
//	flowing   packets are sent as they come, up to a limit
//	resolving something was not accepted: nothing more is sent until every open
//	          try has its answer or is lost
//	waiting   the caller was told to wait (StepWait) or to get an epoch
//	          (StepEpoch), and says so by Resume or SetEpoch
//	probing   only packets whose outcome is not known are sent, to learn it
//
// # Inputs and outputs
//
// Push adds a packet. Peek and Take give the next one to send. Each Take is
// answered once: by Answer, or by Lost for all that is open. After every input
// the caller asks Step until it returns StepNone, and does what it says.
// Packets that end without an answer of their own are handed out by Ended.
//
// # Why stop and resolve
//
// The server accepts a producer's numbers in their order only (PROTOCOL 2.3), so
// one refusal refuses all that follows it. Going back while answers are still
// to come would have two tries of one packet open at once, and an answer that
// could belong to either. Waiting for the open ones costs at most one round trip
// in a case that waits for a back-off anyway.
//
// # Positions
//
// A packet gets its number when it is first sent, so that one withdrawn before
// leaves no gap. A number is used for one packet only. When a packet that has a
// number ends without being accepted, the numbers behind it can never be
// accepted either: what remains goes on from 1 under the next epoch. Before
// that, every remaining packet whose outcome is not known is asked for under its
// old number (probing), because it may have been accepted there.
package order
