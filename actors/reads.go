package actors

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// The bounds of reads.
const (
	defaultRead = 100
	maxRead     = 1000
	// deadBytes bounds what a page of dead letters reads for the packets' ids.
	deadBytes = 64 << 20
)

// StoredPacket is a retained packet.
type StoredPacket struct {
	Seq        repository.Seq
	AcceptedMs int64  // log time
	Packet     []byte // its protobuf bytes as sent; the receiver owns them
}

// PacketState is a packet's state in one group: waiting, leased, done or dead.
type PacketState struct {
	Group     string
	State     string
	Attempts  uint32
	Reason    string
	LastError string
	Result    []byte
}

// PacketInfo is what is known of a packet.
type PacketInfo struct {
	Seq repository.Seq
	// Stored is nil when the content is no longer kept.
	Stored *StoredPacket
	Groups []PacketState
}

// GroupCursor is where a group stands in a repository.
type GroupCursor struct {
	Group         string
	Cursors       [repository.Ranks]repository.Seq
	LeasedUntilMs int64 // wall clock; 0: no lease
	Attempts      uint32
	Token         repository.Token
	ReadyMs       int64  // log time; 0: now, or nothing waits
	Waiting       uint64 // at least
}

// RepositoryInfo describes a repository.
type RepositoryInfo struct {
	repository.RepoInfo
	Partition repository.PartitionID
	Groups    []GroupCursor
	// Parked says that the repository's actor kept failing and is stopped, where
	// another node told so; of this node's the Relay knows.
	Parked bool
}

// barrier returns once what was committed before the call is applied here.
func barrier(ctx context.Context, p LanePartition) error {
	done := make(chan error, 1)
	p.Barrier(func(err error) { done <- err })
	select {
	case err := <-done:
		return asRefusalOf(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func asRefusalOf(err error) error {
	if err == nil {
		return nil
	}
	return asRefusal(err)
}

// read runs f on the state of the repository's partition, behind a barrier.
func (d *DeliveryService) read(ctx context.Context, repo string, f func(m *repository.Machine) error) (LanePartition, error) {
	if err := checkRepo(repo); err != nil {
		return nil, err
	}
	p := d.keeper(repo).p
	if err := barrier(ctx, p); err != nil {
		return nil, err
	}
	return p, internal(p.View(f))
}

// internal marks what went wrong in the state; refusals stay what they are.
func internal(err error) error {
	var r *Refusal
	if err == nil || errors.As(err, &r) {
		return err
	}
	return &Refusal{Code: CodeInternal, Message: err.Error()}
}

func checkRepo(repo string) error {
	l := wire.DefaultLimits()
	if repo == "" || len(repo) > l.RepoID || !utf8.ValidString(repo) {
		return invalid("repo_id", fmt.Sprintf("must be 1 to %d bytes of UTF-8", l.RepoID))
	}
	return nil
}

// payload reads what ref refers to; nil when it is not kept any more.
func payload(p LanePartition, ref repository.Ref) ([]byte, error) {
	b, err := p.Payload(ref, nil)
	switch {
	case errors.Is(err, ErrGone):
		return nil, nil
	case err != nil:
		return nil, &Refusal{Code: CodeInternal, Message: err.Error()}
	case b == nil:
		b = []byte{} // an empty packet is one, too
	}
	return b, nil
}

// Lookup returns one packet and its state in each group, by its number, or by its
// id if seq is 0. It blocks for a quorum round.
func (d *DeliveryService) Lookup(ctx context.Context, repo string, seq repository.Seq, id string) (*PacketInfo, error) {
	if seq == 0 && id == "" {
		return nil, invalid("sequence", "is missing: give a sequence, or a packet_id")
	}
	info := &PacketInfo{Seq: seq}
	var ref repository.Ref
	var accepted int64
	kept := false
	p, err := d.read(ctx, repo, func(m *repository.Machine) error {
		if info.Seq == 0 {
			found, err := findPacket(m, repo, id)
			if err != nil {
				return err
			}
			info.Seq = found
		}
		head, ok, err := m.Repo(bytesOf(repo))
		if err != nil {
			return err
		}
		if !ok || info.Seq > head.Head {
			return &Refusal{Code: CodeNotFound, Field: "sequence", Message: "the repository has no packet of this number"}
		}
		items, err := m.Packets(bytesOf(repo), info.Seq, 1, nil)
		if err != nil {
			return err
		}
		item := (*repository.StoredItem)(nil)
		if len(items) > 0 && items[0].Seq == info.Seq {
			item = &items[0]
			ref, accepted, kept = item.Ref, item.AcceptedMs, true
		}
		info.Groups, err = d.states(m, repo, info.Seq, item, func(dead *repository.DeadLetter) {
			if !kept {
				ref, kept = dead.Ref, true
			}
		})
		return err
	})
	if err != nil || !kept {
		return info, err
	}
	b, err := payload(p, ref)
	if err != nil || b == nil {
		return info, err
	}
	info.Stored = &StoredPacket{Seq: info.Seq, AcceptedMs: accepted, Packet: b}
	return info, nil
}

// states lists what each group made of a packet; item is nil when it is not
// retained.
func (d *DeliveryService) states(m *repository.Machine, repo string, seq repository.Seq, item *repository.StoredItem, dead func(*repository.DeadLetter)) ([]PacketState, error) {
	var out []PacketState
	for _, g := range m.Groups() {
		x := PacketState{Group: g.Name, State: "done"}
		letter, isDead, err := m.Dead(g.ID, bytesOf(repo), seq)
		if err != nil {
			return nil, err
		}
		lane, err := m.Lane(g.ID, bytesOf(repo))
		if err != nil {
			return nil, err
		}
		switch {
		case isDead:
			dead(&letter)
			x.State, x.Attempts, x.Reason, x.LastError = "dead", letter.Attempts, letter.Reason.String(), letter.Error()
		case item != nil && seq > lane.Cursors[item.Rank]:
			x.State = "waiting"
			if lane.Token != 0 && lane.Rank == item.Rank && seq <= lane.Last {
				x.State = "leased"
			}
			if lane.HeadSeq == seq {
				x.Attempts, x.LastError = lane.Attempts, lane.LastError
			}
		}
		if x.State == "done" {
			kept, ok, err := m.ResultOf(g.ID, bytesOf(repo), seq)
			if err == nil && ok {
				x.Result, err = d.packer.unpack(&kept)
			}
			if err != nil {
				return nil, err
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// ReadPackets returns a repository's retained packets in the order of their
// numbers, without a lease, from a number on: at most limit of them (1,000; 0
// means 100), and no more bytes than one answer may have. It blocks for a quorum
// round.
func (d *DeliveryService) ReadPackets(ctx context.Context, repo string, from repository.Seq, limit uint32) (packets []StoredPacket, head repository.Seq, err error) {
	if limit > maxRead {
		return nil, 0, invalid("limit", "must be at most 1,000")
	}
	if limit == 0 {
		limit = defaultRead
	}
	var items []repository.StoredItem
	p, err := d.read(ctx, repo, func(m *repository.Machine) error {
		info, _, err := m.Repo(bytesOf(repo))
		if err != nil {
			return err
		}
		head = info.Head
		items, err = m.Packets(bytesOf(repo), from, int(limit), nil)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	size := 0
	for i := range items {
		if size += int(items[i].Ref.Length); size > d.cfg.TakeBytes && len(packets) > 0 {
			break
		}
		b, err := payload(p, items[i].Ref)
		if err != nil {
			return nil, 0, err
		}
		if b != nil {
			packets = append(packets, StoredPacket{Seq: items[i].Seq, AcceptedMs: items[i].AcceptedMs, Packet: b})
		}
	}
	return packets, head, nil
}

// Repository describes a repository. It blocks for a quorum round.
func (d *DeliveryService) Repository(ctx context.Context, repo string) (*RepositoryInfo, error) {
	info := &RepositoryInfo{}
	var ids []repository.GroupID
	p, err := d.read(ctx, repo, func(m *repository.Machine) error {
		head, ok, err := m.Repo(bytesOf(repo))
		if err != nil {
			return err
		}
		if !ok {
			return &Refusal{Code: CodeNotFound, Field: "repo_id", Message: "nothing was ever accepted for this repository"}
		}
		info.RepoInfo = head
		for _, g := range m.Groups() {
			c, err := cursorOf(m, &g, repo, &head)
			if err != nil {
				return err
			}
			info.Groups = append(info.Groups, c)
			ids = append(ids, g.ID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	info.Partition = p.ID()
	k := d.keeper(repo)
	for i := range info.Groups {
		if c := &info.Groups[i]; c.Token != 0 {
			c.LeasedUntilMs = k.leasedUntil(ids[i], repo, c.Token)
		}
	}
	return info, nil
}

func cursorOf(m *repository.Machine, g *repository.GroupConfig, repo string, head *repository.RepoInfo) (GroupCursor, error) {
	lane, err := m.Lane(g.ID, bytesOf(repo))
	if err != nil {
		return GroupCursor{}, err
	}
	c := GroupCursor{
		Group: g.Name, Cursors: lane.Cursors, Attempts: lane.Attempts, Token: lane.Token, ReadyMs: lane.ReadyMs,
	}
	if !lane.Waiting && lane.Token == 0 {
		return c, nil
	}
	items, err := m.Packets(bytesOf(repo), 0, maxRead, nil)
	if err != nil {
		return c, err
	}
	for i := range items {
		if items[i].Seq > lane.Cursors[items[i].Rank] {
			c.Waiting++
		}
	}
	// What lies behind the page is newer than all cursors in it, but for the odd
	// priority that is far ahead.
	if rest := head.Backlog - min(head.Backlog, uint64(len(items))); rest > 0 {
		c.Waiting += rest
	}
	return c, nil
}

// leasedUntil is the wall-clock time at which the leader takes the lease away.
func (k *keeper) leasedUntil(g repository.GroupID, repo string, token repository.Token) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.leases[laneKey{g, repo}]
	if l == nil || l.token != token {
		return 0
	}
	return time.Now().Add(l.deadline.At() - k.d.mono()).UnixMilli()
}
