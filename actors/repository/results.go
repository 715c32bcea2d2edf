package repository

// Code is what Apply decided of one packet or lease.
type Code uint8

// The codes. OK and Duplicate carry a sequence number.
const (
	OK              Code = iota
	Duplicate            // accepted before: Seq is the first one's
	Gap                  // Expected is the position that may come next
	Fenced               // a newer epoch of this producer is known
	UnknownProducer      // no record of this producer, and its sequence is over 1
	BacklogFull          // the repository's backlog limit
	TooOld               // a position below the last 1,024: its receipt is not kept any more
	Stale                // not the lease's token
	Leased               // another lease holds the lane
	NotReady             // the lane backs off, or its head is delayed
	Empty                // nothing waits in the lane
	Held                 // a dead letter holds the lane, or it is being parked
	UnknownGroup         // this partition does not know the group
	BadSettlement        // not a prefix of the lease's packets
	Void                 // proposed in another term: nothing happened
)

// PublishResult is the outcome of one packet, in the order of the command.
type PublishResult struct {
	Seq            Seq
	Expected       uint64
	Code           Code
	ContentDiffers bool
}

// GrantedItem is one packet under a lease.
type GrantedItem struct {
	Seq        Seq
	Ref        Ref
	AcceptedMs int64 // log time
	RedriveOf  Seq   // the dead letter that it was; 0: it was published
}

// GrantResult is the outcome of one grant.
type GrantResult struct {
	Code    Code
	Token   Token
	Rank    Rank
	Attempt uint32 // of the first item; the others' is 1
	Items   []GrantedItem
	ReadyMs int64 // with NotReady: log time at which the lane may run
	More    bool  // the lane has more than was granted
}

// SettleOutcome is the outcome of one settlement.
type SettleOutcome struct {
	Code  Code
	Ended bool // the lease is over
	Dead  bool // the failed packet is a dead letter now
}

// LaneEvent tells the leader that a lane became runnable, or will at ReadyMs.
type LaneEvent struct {
	Group   GroupID
	Repo    string
	Rank    Rank
	ReadyMs int64 // 0: at once
}

// Ended counts what ended without a worker, for metrics.
type Ended struct {
	Group  GroupID
	Reason Reason
	Count  int
}

// DeadOutcome is the outcome of one command about dead letters.
type DeadOutcome struct {
	Code   Code   // OK or UnknownGroup
	Tag    uint64 // the command's
	Looked int    // at so many dead letters
	Count  int    // of those that it was done to
	Next   []byte // where to go on; nil: there are no more
}

// Results is what an entry's commands came to, each kind in the order of the
// commands. It is reused: take what is needed before handing it back.
type Results struct {
	Void    bool // the entry was proposed in another term
	Publish []PublishResult
	Grants  []GrantResult
	Settles []SettleOutcome
	Dead    []DeadOutcome
	Lanes   []LaneEvent
	Ended   []Ended
	Deduped int
	Dropped int // packets of no group past their retention, and dead letters past theirs
	Worked  int // by Expire, Sweep, Park, Backfill and Housekeep: at the limit means more is left
	items   []GrantedItem
}

// Reset empties r and keeps its memory.
func (r *Results) Reset() {
	*r = Results{
		Publish: r.Publish[:0], Grants: r.Grants[:0], Settles: r.Settles[:0], Dead: r.Dead[:0],
		Lanes: r.Lanes[:0], Ended: r.Ended[:0], items: r.items[:0],
	}
}

func (r *Results) ended(g GroupID, reason Reason, n int) {
	for i := range r.Ended {
		if r.Ended[i].Group == g && r.Ended[i].Reason == reason {
			r.Ended[i].Count += n
			return
		}
	}
	r.Ended = append(r.Ended, Ended{Group: g, Reason: reason, Count: n})
}
