package sim

import (
	"fmt"
	"strconv"
	"strings"
)

// kind is what an op does.
type kind uint8

const (
	opTick     kind = iota // node a counts n ticks
	opDeliver              // n messages from a to b, from place c of the queue on
	opDrop                 // the message at place c from a to b is lost
	opDouble               // the message at place c from a to b comes twice
	opCut                  // what a sends to b is lost from now on
	opMend                 // what a sends to b arrives again
	opWrite                // node a puts at most n items into its log, in one batch
	opSync                 // node a's disk syncs what was written
	opApply                // node a applies at most n entries
	opPropose              // the leader of group b on node a fills an entry
	opSpill                // node a spills at most n entries of group b
	opTruncate             // node a begins to truncate group b, to n percent of what is applied
	opFlush                // node a flushes its state, and truncates what then can be
	opChores               // the leader of group b on node a looks for what is past its time, n at most
	opRead                 // node a reads a payload of group b that n picks
	opVerify               // node a's state of group b is compared with what was committed
	opCrash                // node a crashes; n says what of its unsynced writes survives
	opStart                // node a starts
	opPower                // all nodes lose power
	opClock                // node a's wall clock jumps by n-2^32 milliseconds
	opTransfer             // node a hands the leadership of group b to replica c
	opSend                 // producer a sends something that n picks
	opRequest              // the oldest request of client a's stream b arrives
	opReply                // the oldest reply to client a arrives
	opBreak                // client a breaks its stream and goes to node b
	opRestart              // producer a restarts under a new epoch
	opPull                 // worker a asks for work
	opSettle               // worker a settles something that n picks
	opRenew                // worker a renews the lease that n picks
	opMove                 // the leader of group b on node a takes a step towards the wished configuration
	opAdmin                // node a is drained, undrained, removed, emptied, or joins, as n draws
	opJoin                 // node a asks node b to be taken in; n: the answer is lost
	opKeep                 // node a runs and deletes what the map says; n says how far it comes
	opDraw                 // node a draws the map, if it leads meta
	opCall                 // node a tries its call b to meta's leader
	opMail                 // the call or answer at place a arrives; b: it is lost
	opPhoto                // node a takes the state for a snapshot that raft wants
	opCarry                // the snapshot at place a arrives; b: it is lost
	opInstall              // node a takes the next step of an install of group b
	opRollback             // the disk of node a, which is down, comes back with an older log
	opFlip                 // a bit of group b's log or state flips on node a; n says which
	opGone                 // node a is told that the process of node b has ended
	opDead                 // the leader of group b on node a has a dead letter that n picks redriven or discarded; c: one that holds its lane
	kinds
)

var kindNames = [kinds]string{
	"tick", "deliver", "drop", "double", "cut", "mend", "write", "sync", "apply", "propose", "spill", "truncate",
	"flush", "chores", "read", "verify", "crash", "start", "power", "clock", "transfer", "send", "request", "reply", "break", "restart", "pull", "settle", "renew",
	"move", "admin", "join", "keep", "draw", "call", "mail", "photo", "carry", "install", "rollback", "flip", "gone", "dead",
}

// op is one event. What it draws at random follows from n.
type op struct {
	kind    kind
	a, b, c int
	n       uint64
}

func (o op) String() string {
	return fmt.Sprintf("%s %d %d %d %d", kindNames[o.kind], o.a, o.b, o.c, o.n)
}

func parseOp(line string) (op, error) {
	f := strings.Fields(line)
	if len(f) != 5 {
		return op{}, fmt.Errorf("parse op %q: %d fields", line, len(f))
	}
	var o op
	for o.kind = 0; o.kind < kinds && kindNames[o.kind] != f[0]; o.kind++ {
	}
	if o.kind == kinds {
		return op{}, fmt.Errorf("parse op %q: unknown kind", line)
	}
	for i, p := range []*int{&o.a, &o.b, &o.c} {
		v, err := strconv.Atoi(f[i+1])
		if err != nil {
			return op{}, fmt.Errorf("parse op %q: %w", line, err)
		}
		*p = v
	}
	var err error
	o.n, err = strconv.ParseUint(f[4], 10, 64)
	return o, err
}
