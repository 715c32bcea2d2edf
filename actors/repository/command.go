package repository

import (
	"encoding/binary"
	"fmt"

	"github.com/waystation/waystation/messages/envelope"
)

// An entry's body is a row of commands: kind u8, version u8, length u32 (little
// endian), then the command. The numbers are stored: never reuse one.
const (
	cmdPublish    = 1
	cmdGrant      = 2
	cmdSettle     = 3
	cmdExpire     = 4
	cmdSweep      = 5
	cmdConfigure  = 6
	cmdSetGroup   = 7
	cmdBackfill   = 8
	cmdFence      = 9
	cmdHousekeep  = 10
	cmdDead       = 11
	cmdPark       = 12
	cmdDropGroup  = 13
	cmdRemove     = 14
	commandHeader = 6
	version1      = 1
)

// Flags of a published packet, in entries and in runs. The low two bits are the rank.
const (
	itemRank         = 3
	itemPosition     = 1 << 2
	itemID           = 1 << 3
	itemTTL          = 1 << 4
	itemDelay        = 1 << 5
	itemSameProducer = 1 << 6 // producer and epoch as in the packet before
)

// PublishItem is one packet as a command carries it. Its slices are copied.
type PublishItem struct {
	Raw            []byte // the packet's protobuf bytes, as sent
	Tail           []byte // appended to Raw, so that a missing checksum needs no copy
	RawCRC         uint32 // CRC-32C of Raw and Tail
	ContentCRC     uint32
	Rank           Rank
	ID             []byte
	Producer       []byte // empty: no position
	Epoch          uint64
	Sequence       uint64
	TTLMs          uint64 // 0: none
	DeliverAfterMs uint64
}

// Grant asks for a lease of one repository.
type Grant struct {
	Group    GroupID
	Repo     []byte
	Session  []byte // the worker's session name
	MaxItems uint32
	MaxBytes uint32
	LeaseMs  uint32
}

// SettleKind is what a settlement says of the packet that ends its prefix.
type SettleKind uint8

// The kinds. They are stored in the log: never renumber.
const (
	SettleDone    SettleKind = 0 // only a prefix is done; the lease goes on with the rest
	SettleRetry   SettleKind = 1 // Failed failed; the lease ends
	SettleDead    SettleKind = 2 // Failed can never succeed; the lease ends
	SettleRelease SettleKind = 3 // the rest goes back, uncharged
	SettleExpire  SettleKind = 4 // the lease ran out: the head failed
	// settleRetryAfter stands for SettleRetry with a delay in the log alone. It is a
	// kind of its own so that a node that knows no delays stops at it, instead of
	// setting another ready time than the others.
	settleRetryAfter SettleKind = 5
)

// Settle ends all or a part of a lease: first everything up to Through is done,
// then Kind says what becomes of the rest.
type Settle struct {
	Group   GroupID
	Repo    []byte
	Token   Token
	Through Seq // 0: nothing is done
	Kind    SettleKind
	Failed  Seq
	Error   []byte
	Results []SettleResult // results of packets that are done
	// RetryAfterMs is the least delay of a SettleRetry, a day at most; the group's
	// back-off counts where it is longer.
	RetryAfterMs uint64
}

// SettleResult is what a worker left with a packet that is done: a Left, encoded.
type SettleResult struct {
	Seq    Seq
	Result []byte
}

// EntryBuilder builds one raft entry: room for the envelope, then commands. The
// zero value is ready; Reset makes it so again.
type EntryBuilder struct {
	b        []byte
	cmd      int // where the open command's header begins
	group    int // where the open repository's item count stands
	items    uint32
	prevProd []byte
	prevEp   uint64
}

// Reset begins a new entry in buf, which the builder owns until Bytes.
func (e *EntryBuilder) Reset(buf []byte) {
	if cap(buf) < envelope.Size {
		buf = make([]byte, 0, 4096)
	}
	*e = EntryBuilder{b: buf[:envelope.Size], cmd: -1}
	clear(e.b)
}

// Len is the entry's length so far, in bytes.
func (e *EntryBuilder) Len() int { return len(e.b) }

// Bytes is the entry. The builder forgets it.
func (e *EntryBuilder) Bytes() []byte {
	b := e.b
	e.b = nil
	return b
}

func (e *EntryBuilder) begin(kind byte) {
	e.cmd = len(e.b)
	e.b = append(e.b, kind, version1, 0, 0, 0, 0)
}

func (e *EntryBuilder) end() {
	binary.LittleEndian.PutUint32(e.b[e.cmd+2:], uint32(len(e.b)-e.cmd-commandHeader))
	e.cmd = -1
}

// BeginPublish opens a publish command; BeginRepo and AddPacket follow, then
// EndPublish.
func (e *EntryBuilder) BeginPublish() { e.begin(cmdPublish) }

// BeginRepo opens the packets of one repository.
func (e *EntryBuilder) BeginRepo(repo []byte) {
	e.b = appendBytes(e.b, repo)
	e.group = len(e.b)
	e.b = append(e.b, 0, 0, 0, 0)
	e.items, e.prevProd, e.prevEp = 0, nil, 0
}

// AddPacket adds a packet to the open repository. Its slices are copied, but
// the producer must stay valid until EndRepo.
func (e *EntryBuilder) AddPacket(p *PublishItem) {
	flags := byte(p.Rank) & itemRank
	same := false
	if len(p.Producer) > 0 {
		flags |= itemPosition
		same = e.prevEp == p.Epoch && string(e.prevProd) == string(p.Producer)
		if same {
			flags |= itemSameProducer
		}
	}
	if len(p.ID) > 0 {
		flags |= itemID
	}
	if p.TTLMs > 0 {
		flags |= itemTTL
	}
	if p.DeliverAfterMs > 0 {
		flags |= itemDelay
	}
	b := append(e.b, flags)
	b = binary.LittleEndian.AppendUint32(b, p.RawCRC)
	b = binary.LittleEndian.AppendUint32(b, p.ContentCRC)
	if flags&itemPosition != 0 {
		if !same {
			b = appendBytes(b, p.Producer)
			b = binary.AppendUvarint(b, p.Epoch)
			e.prevProd, e.prevEp = p.Producer, p.Epoch
		}
		b = binary.AppendUvarint(b, p.Sequence)
	}
	if flags&itemID != 0 {
		b = appendBytes(b, p.ID)
	}
	if flags&itemTTL != 0 {
		b = binary.AppendUvarint(b, p.TTLMs)
	}
	if flags&itemDelay != 0 {
		b = binary.AppendUvarint(b, p.DeliverAfterMs)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Raw)+len(p.Tail)))
	b = append(b, p.Raw...)
	e.b = append(b, p.Tail...)
	e.items++
}

// EndRepo closes the open repository.
func (e *EntryBuilder) EndRepo() {
	binary.LittleEndian.PutUint32(e.b[e.group:], e.items)
}

// EndPublish closes the publish command.
func (e *EntryBuilder) EndPublish() { e.end() }

// AddGrant adds a grant.
func (e *EntryBuilder) AddGrant(g *Grant) {
	e.begin(cmdGrant)
	b := binary.AppendUvarint(e.b, uint64(g.Group))
	b = appendBytes(b, g.Repo)
	b = appendBytes(b, g.Session)
	b = binary.AppendUvarint(b, uint64(g.MaxItems))
	b = binary.AppendUvarint(b, uint64(g.MaxBytes))
	e.b = binary.AppendUvarint(b, uint64(g.LeaseMs))
	e.end()
}

// AddSettle adds a settlement.
func (e *EntryBuilder) AddSettle(s *Settle) {
	e.begin(cmdSettle)
	b := binary.AppendUvarint(e.b, uint64(s.Group))
	b = appendBytes(b, s.Repo)
	b = binary.AppendUvarint(b, uint64(s.Token))
	b = binary.AppendUvarint(b, uint64(s.Through))
	if s.Kind == SettleRetry && s.RetryAfterMs > 0 {
		b = append(b, byte(settleRetryAfter))
		b = binary.AppendUvarint(b, s.RetryAfterMs)
	} else {
		b = append(b, byte(s.Kind))
	}
	b = binary.AppendUvarint(b, uint64(s.Failed))
	b = appendBytes(b, s.Error)
	b = binary.AppendUvarint(b, uint64(len(s.Results)))
	for i := range s.Results {
		b = binary.AppendUvarint(b, uint64(s.Results[i].Seq))
		b = appendBytes(b, s.Results[i].Result)
	}
	e.b = b
	e.end()
}

// AddExpire turns packets whose time to live has passed into dead letters, at
// most limit of them.
func (e *EntryBuilder) AddExpire(limit uint32) { e.addLimit(cmdExpire, limit) }

// AddSweep ends packets and dead letters past their retention, at most limit of them.
func (e *EntryBuilder) AddSweep(limit uint32) { e.addLimit(cmdSweep, limit) }

// AddPark makes dead letters of what waits in lanes that are parked, at most limit
// of it.
func (e *EntryBuilder) AddPark(limit uint32) { e.addLimit(cmdPark, limit) }

// AddHousekeep drops dedup buckets past the window and idle producers, at most
// limit of the latter.
func (e *EntryBuilder) AddHousekeep(limit uint32) { e.addLimit(cmdHousekeep, limit) }

func (e *EntryBuilder) addLimit(kind byte, limit uint32) {
	e.begin(kind)
	e.b = binary.AppendUvarint(e.b, uint64(limit))
	e.end()
}

// AddBackfill indexes at most limit repositories that were there before the
// group was.
func (e *EntryBuilder) AddBackfill(group GroupID, limit uint32) {
	e.begin(cmdBackfill)
	e.b = binary.AppendUvarint(e.b, uint64(group))
	e.b = binary.AppendUvarint(e.b, uint64(limit))
	e.end()
}

// AddConfigure sets the partition's settings; an older or equal version is ignored.
func (e *EntryBuilder) AddConfigure(c *Config) {
	e.begin(cmdConfigure)
	e.b = c.Append(e.b)
	e.end()
}

// AddSetGroup makes a group known to the partition, or changes it; an older or
// equal version is ignored.
func (e *EntryBuilder) AddSetGroup(c *GroupConfig) {
	e.begin(cmdSetGroup)
	e.b = c.Append(e.b)
	e.end()
}

// AddFence refuses every lower epoch of a producer from now on.
func (e *EntryBuilder) AddFence(producer []byte, epoch uint64) {
	e.begin(cmdFence)
	e.b = appendBytes(e.b, producer)
	e.b = binary.AppendUvarint(e.b, epoch)
	e.end()
}

// eachCommand walks an entry's commands. off is the command body's offset in the entry.
func eachCommand(data []byte, visit func(kind byte, body []byte, off int) error) error {
	for off := envelope.Size; off < len(data); {
		if len(data)-off < commandHeader {
			return fmt.Errorf("command at offset %d: %w", off, errShort)
		}
		kind, version := data[off], data[off+1]
		n := int(binary.LittleEndian.Uint32(data[off+2:]))
		body := off + commandHeader
		if n < 0 || len(data)-body < n {
			return fmt.Errorf("command %d at offset %d: %w", kind, off, errShort)
		}
		if version != version1 {
			return fmt.Errorf("command %d at offset %d: version %d is newer than this node knows: upgrade it", kind, off, version)
		}
		if err := visit(kind, data[body:body+n], body); err != nil {
			return err
		}
		off = body + n
	}
	return nil
}
