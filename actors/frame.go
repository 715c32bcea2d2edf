package actors

import (
	"sync/atomic"
	"time"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// Frame is what a client sent at once. It belongs to the Relay from Offer until
// Release is called.
type Frame struct {
	// Packets are views of the frame's bytes, parsed; Offer validates them.
	Packets []wire.Packet
	// First is the index of Packets[0] in its stream.
	First uint64
	// Indexes are the packets' indexes in their stream where these are not First,
	// First+1, …: of a frame that another node takes a part of. Nil otherwise.
	Indexes []uint64
	// Bytes is the size of the buffer that the packets alias.
	Bytes int
	// Release is called once, from any goroutine, when no packet's bytes are needed
	// any more; nil is allowed. It must not block.
	Release func()
}

// Sink takes the answers to the packets of one stream.
type Sink interface {
	// Results is called with answers, in any order between repositories; each packet
	// gets exactly one. It may be called from several goroutines at once, and before
	// Offer returns. It must neither block, nor keep rs or the slices in it. Sinks
	// are compared: implement it with a pointer.
	Results(rs []PublishResult)
}

// PublishResult is the answer to one packet: a receipt, or a refusal.
type PublishResult struct {
	// Index is the packet's place in its stream.
	Index uint64
	// Repo and ID are the packet's own. They are valid during the call only.
	Repo, ID []byte
	// Seq is the packet's number; Duplicate and ContentDiffers are as in a Receipt.
	Seq            repository.Seq
	Duplicate      bool
	ContentDiffers bool
	// Refusal is nil for a receipt.
	Refusal *Refusal
}

// inbound is a frame on its way. refs counts who still needs the frame's bytes:
// each packet until it is answered or copied into an entry, each message to an
// actor until it was handled, and Offer itself.
type inbound struct {
	relay   *Relay
	frame   *Frame
	sink    Sink
	arrived time.Duration // on the relay's clock
	refs    atomic.Int32
	next    []int32 // next[i]: the packet behind i of the same repository, or -1
	offers  []offer
	slots   []int32 // hash table over offers, while grouping
	results []PublishResult
}

// offer is the packets of one repository in a frame: the message to its actor.
type offer struct {
	in       *inbound
	resident *resident
	hash     uint64
	head     int32
	tail     int32
	count    int
	bytes    int
}

// end marks the end of a chain of packets.
const end = -1

func (r *Relay) newInbound(f *Frame, sink Sink) *inbound {
	in, _ := r.inbounds.Get().(*inbound)
	if in == nil {
		in = &inbound{}
	}
	n := len(f.Packets)
	if cap(in.next) < n {
		in.next = make([]int32, n)
	}
	in.relay, in.frame, in.sink, in.arrived = r, f, sink, r.now()
	in.next = in.next[:n]
	in.refs.Store(1)
	return in
}

// drop gives n references up.
func (in *inbound) drop(n int) {
	if n == 0 || in.refs.Add(int32(-n)) > 0 {
		return
	}
	release := in.frame.Release
	clear(in.offers)
	clear(in.results)
	in.frame, in.sink = nil, nil
	in.offers, in.results = in.offers[:0], in.results[:0]
	in.relay.inbounds.Put(in)
	if release != nil {
		release()
	}
}

func (in *inbound) packet(i int32) *wire.Packet { return &in.frame.Packets[i] }

// index is the place of packet i in its stream.
func (f *Frame) index(i int32) uint64 {
	if f.Indexes != nil {
		return f.Indexes[i]
	}
	return f.First + uint64(i)
}

func (in *inbound) result(i int32, refusal *Refusal) PublishResult {
	p := in.packet(i)
	return PublishResult{Index: in.frame.index(i), Repo: p.Repo, ID: p.ID, Refusal: refusal}
}

// packetOverhead is charged for each packet beside its bytes: what is kept about
// it, so that many tiny packets are bounded as well.
const packetOverhead = 64

// charge is what a packet counts in every bound of bytes, and about what it takes
// in an entry.
func charge(p *wire.Packet) int { return len(p.Raw) + len(p.ID) + packetOverhead }

// group validates the packets and chains those of each repository, in order.
// Refused ones are in results then.
func (in *inbound) group(limits *wire.Limits, seed uint64) {
	size := 16
	for size < 2*len(in.frame.Packets) {
		size *= 2
	}
	if cap(in.slots) < size {
		in.slots = make([]int32, size)
	}
	in.slots = in.slots[:size]
	clear(in.slots)
	for i := range in.frame.Packets {
		p := &in.frame.Packets[i]
		if err := p.Validate(limits); err != nil {
			in.results = append(in.results, in.result(int32(i), refusedInvalid(err)))
			continue
		}
		in.chain(int32(i), p, hashRepo(seed, p.Repo))
	}
}

// chain appends packet i to its repository's offer.
func (in *inbound) chain(i int32, p *wire.Packet, hash uint64) {
	in.next[i] = end
	mask := uint64(len(in.slots) - 1)
	at := hash & mask
	for ; in.slots[at] != 0; at = (at + 1) & mask {
		o := &in.offers[in.slots[at]-1]
		if o.hash == hash && string(in.packet(o.head).Repo) == string(p.Repo) {
			in.next[o.tail] = i
			o.tail = i
			o.count++
			o.bytes += charge(p)
			return
		}
	}
	in.offers = append(in.offers, offer{in: in, hash: hash, head: i, tail: i, count: 1, bytes: charge(p)})
	in.slots[at] = int32(len(in.offers))
}
