// Package history checks that what clients saw of a few repositories could have
// come from one machine that does one thing at a time: whatever was killed or cut
// off meanwhile, no receipt, and no answer to a question, may come from a past
// that was over before it was asked.
//
// The model of a repository is a counter: a packet that is published for the
// first time takes the next number, one that was published before keeps its own,
// and who asks for the newest number gets the counter. Porcupine looks for an
// order of all calls, each between its begin and its end, that the model allows.
//
// A Recorder may be used by several goroutines.
package history

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Recorder keeps what happened to the sampled repositories. Times are since the
// run's begin.
type Recorder struct {
	repos []*repo // by index; nil: not sampled
	picks []int
}

// Most is how many packets of one repository are recorded: what is beyond the
// first ones is left out, so that a check takes no longer than a moment.
const Most = 4000

// repo is one sampled repository. All under mu.
type repo struct {
	mu        sync.Mutex
	publishes []publish // by the packet's index
	reads     []read
}

type publish struct {
	call, done time.Duration
	number     uint64 // 0: none seen
	open       bool   // no receipt: it may take effect at any later time
}

type read struct {
	call, done time.Duration
	head       uint64
}

// New returns a Recorder for repositories 0 to repos-1, of which it samples picks.
func New(repos int, picks []int) *Recorder {
	r := &Recorder{repos: make([]*repo, repos), picks: picks}
	for _, i := range picks {
		r.repos[i] = &repo{}
	}
	return r
}

// Sampled says whether a repository is recorded. A nil Recorder records none.
func (r *Recorder) Sampled(repo int) bool { return r != nil && r.repos[repo] != nil }

// Sample are the recorded repositories. The slice must not be changed.
func (r *Recorder) Sample() []int { return r.picks }

// Send notes that packet index of a repository is about to be sent. Packets come
// in the order of their indexes, from 0.
func (r *Recorder) Send(repo int, index uint32, at time.Duration) {
	if !r.Sampled(repo) || index >= Most {
		return
	}
	p := r.repos[repo]
	p.mu.Lock()
	defer p.mu.Unlock()
	for int(index) > len(p.publishes) {
		p.publishes = append(p.publishes, publish{open: true}) // never: they come in order
	}
	p.publishes = append(p.publishes, publish{call: at, open: true})
}

// Receipt notes the number that a packet's first receipt gives it.
func (r *Recorder) Receipt(repo int, index uint32, number uint64, at time.Duration) {
	if !r.Sampled(repo) || index >= Most {
		return
	}
	p := r.repos[repo]
	p.mu.Lock()
	defer p.mu.Unlock()
	if x := &p.publishes[index]; x.open {
		x.number, x.done, x.open = number, at, false
	}
}

// Read notes that who asked for the newest number from call to done was told head.
func (r *Recorder) Read(repo int, head uint64, call, done time.Duration) {
	if !r.Sampled(repo) {
		return
	}
	p := r.repos[repo]
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.reads) < Most {
		p.reads = append(p.reads, read{call, done, head})
	}
}

// Check looks for such an order, repository by repository, and returns those
// (by index) that have none. numberOf tells the number of a packet without a
// receipt, if it was seen elsewhere: 0 if not. What could not be decided within
// limit, over all, counts as unknown.
func (r *Recorder) Check(limit time.Duration, numberOf func(repo int, index uint32) uint64) Result {
	var result Result
	deadline := time.Now().Add(limit)
	for _, i := range r.picks {
		p := r.repos[i]
		p.mu.Lock()
		ops := p.operations(func(index uint32) uint64 { return numberOf(i, index) })
		p.mu.Unlock()
		result.Operations += len(ops)
		result.Repositories++
		switch porcupine.CheckOperationsTimeout(model(), ops, max(time.Until(deadline), time.Millisecond)) {
		case porcupine.Illegal:
			result.Broken = append(result.Broken, i)
		case porcupine.Unknown:
			result.Unknown++
		}
	}
	return result
}

// Result is what Check found.
type Result struct {
	// Repositories and Operations were looked at.
	Repositories, Operations int
	// Broken are repositories, by index, whose history no single machine could have made.
	Broken []int
	// Unknown is how many took too long.
	Unknown int
}

// String is for people.
func (r Result) String() string {
	s := fmt.Sprintf("histories: %d calls on %d repositories are linearizable", r.Operations, r.Repositories-len(r.Broken)-r.Unknown)
	if r.Unknown > 0 {
		s += fmt.Sprintf("; undecided: %d repositories", r.Unknown)
	}
	return s
}

// input is a call. Numbers are counted among those that were seen (rank), because
// nobody promises that there are no others between.
type input struct {
	read bool
	rank int
	// nth is which of the reads of this rank it is, by its begin; of a publish, how
	// many reads there are of the rank before.
	nth int
}

// counter is a repository: how many packets have their number, and how many reads
// have been told so.
type counter struct{ count, told int }

// model lets a read happen only while its answer is the counter, so all reads of
// one answer must come before the next packet: asking for that in so many words
// takes nothing away, and leaves porcupine no order to try in vain. Without, a
// single stale answer makes it try all subsets of the reads. For the same reason
// reads of one answer come in the order of their begins, which never contradicts
// that of their ends.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return counter{} },
		Step: func(state, in, _ any) (bool, any) {
			c, _ := state.(counter)
			x, _ := in.(input)
			if x.read {
				return x.rank == c.count && x.nth == c.told, counter{c.count, c.told + 1}
			}
			return x.rank == c.count+1 && x.nth == c.told, counter{c.count + 1, 0}
		},
	}
}

// forever is the end of calls that have none.
const forever = int64(1) << 62

// operations is called under mu.
func (p *repo) operations(numberOf func(uint32) uint64) []porcupine.Operation {
	all := slices.Clone(p.publishes)
	numbers := make([]uint64, 0, len(all))
	for i := range all {
		if all[i].number == 0 {
			all[i].number = numberOf(uint32(i))
		}
		if all[i].number != 0 {
			numbers = append(numbers, all[i].number)
		}
	}
	slices.Sort(numbers)
	// Two packets under one number have one rank: the second can then never be the
	// counter's next. That is a violation, as it should be.
	rankOf := func(number uint64) int {
		at, found := slices.BinarySearch(numbers, number)
		if found {
			at++
		}
		return at
	}
	ops, told := p.readOperations(numbers, len(all) >= Most, rankOf)
	for _, x := range all {
		if x.number == 0 {
			continue // it had no effect that anybody saw
		}
		end := int64(x.done)
		if x.open {
			end = forever
		}
		rank := rankOf(x.number)
		ops = append(ops, porcupine.Operation{Input: input{rank: rank, nth: told[rank-1]}, Call: int64(x.call), Return: end})
	}
	return ops
}

// readOperations also returns how many reads there are of each rank.
func (p *repo) readOperations(numbers []uint64, cut bool, rankOf func(uint64) int) (ops []porcupine.Operation, told map[int]int) {
	reads := slices.Clone(p.reads)
	slices.SortStableFunc(reads, func(a, b read) int { return cmp.Compare(a.call, b.call) })
	told = map[int]int{}
	for _, x := range reads {
		if cut && (len(numbers) == 0 || x.head >= numbers[len(numbers)-1]) {
			continue // of packets that are not recorded, or before they are
		}
		rank := rankOf(x.head)
		ops = append(ops, porcupine.Operation{
			Input: input{read: true, rank: rank, nth: told[rank]}, Call: int64(x.call), Return: int64(x.done),
		})
		told[rank]++
	}
	return ops, told
}
