package api

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// The answers over HTTP: snake_case, 64-bit integers as strings, bytes as
// base64. What is documented is always there; what a packet need not have is
// left out when it has not.

type jsonError struct {
	Code         string `json:"code"`
	Field        string `json:"field"`
	Message      string `json:"message"`
	RetryAfterMs int64  `json:"retry_after_ms,string"`
	Expected     uint64 `json:"expected_sequence,omitempty,string"`
}

func errorJSON(e *waystationv1.Error) *jsonError {
	if e == nil {
		return nil
	}
	return &jsonError{
		Code: e.GetCode(), Field: e.GetField(), Message: e.GetMessage(),
		RetryAfterMs: e.GetRetryAfterMs(), Expected: e.GetExpectedSequence(),
	}
}

// ReceiptJSON is a receipt as HTTP answers it.
type ReceiptJSON struct {
	RepoID         string `json:"repo_id"`
	PacketID       string `json:"packet_id"`
	Sequence       uint64 `json:"sequence,string"`
	Duplicate      bool   `json:"duplicate"`
	ContentDiffers bool   `json:"content_differs"`
}

type jsonResult struct {
	Receipt *ReceiptJSON `json:"receipt,omitempty"`
	Error   *jsonError   `json:"error,omitempty"`
}

type jsonResults struct {
	Results []jsonResult `json:"results"`
}

type jsonPosition struct {
	Producer string `json:"producer"`
	Epoch    uint64 `json:"epoch,string"`
	Sequence uint64 `json:"sequence,string"`
}

// jsonPacket is what a delivery and a stored packet have of the packet.
type jsonPacket struct {
	RepoID          string            `json:"repo_id"`
	Sequence        uint64            `json:"sequence,string"`
	PacketID        string            `json:"packet_id"`
	Priority        string            `json:"priority"`
	Content         []byte            `json:"content"`
	ContentEncoding string            `json:"content_encoding"`
	ContentCRC32C   *uint32           `json:"content_crc32c,omitempty"`
	Metadata        map[string]string `json:"metadata"`
	Kind            string            `json:"kind,omitempty"`
	Position        *jsonPosition     `json:"position,omitempty"`
	TimeToLive      string            `json:"time_to_live,omitempty"`
	DeliverAfter    string            `json:"deliver_after,omitempty"`
	CreatedAt       string            `json:"created_at,omitempty"`
	Traceparent     string            `json:"traceparent,omitempty"`
	AcceptedAt      string            `json:"accepted_at"`
}

func packetJSON(p *waystationv1.CodePacket, sequence uint64, accepted *timestamppb.Timestamp) jsonPacket {
	j := jsonPacket{
		RepoID: p.GetRepoId(), Sequence: sequence, PacketID: p.GetPacketId(), Priority: p.GetPriority().String(),
		Content: p.GetContent(), ContentEncoding: p.GetContentEncoding().String(), ContentCRC32C: p.ContentCrc32C,
		Metadata: p.GetMetadata(), Kind: p.GetKind(), TimeToLive: seconds(p.GetTimeToLive()),
		DeliverAfter: seconds(p.GetDeliverAfter()), CreatedAt: stamp(p.GetCreatedAt()), Traceparent: p.GetTraceparent(),
		AcceptedAt: stamp(accepted),
	}
	if j.Content == nil {
		j.Content = []byte{}
	}
	if j.Metadata == nil {
		j.Metadata = map[string]string{}
	}
	if at := p.GetPosition(); at != nil {
		j.Position = &jsonPosition{Producer: at.GetProducer(), Epoch: at.GetEpoch(), Sequence: at.GetSequence()}
	}
	return j
}

type jsonDelivery struct {
	jsonPacket
	Attempt        uint32 `json:"attempt"`
	LeaseToken     uint64 `json:"lease_token,string"`
	LeaseMs        uint32 `json:"lease_ms"`
	LeaseExpiresAt string `json:"lease_expires_at"`
	Redelivered    bool   `json:"redelivered"`
	// RedriveOf is the dead letter that it was before it was redriven.
	RedriveOf uint64 `json:"redrive_of,string,omitempty"`
}

type jsonPull struct {
	Deliveries []jsonDelivery `json:"deliveries"`
}

func pullJSON(resp *waystationv1.PullResponse) jsonPull {
	out := jsonPull{Deliveries: make([]jsonDelivery, 0, len(resp.GetDeliveries()))}
	for _, d := range resp.GetDeliveries() {
		out.Deliveries = append(out.Deliveries, jsonDelivery{
			jsonPacket: packetJSON(d.GetPacket(), d.GetSequence(), d.GetAcceptedAt()),
			Attempt:    d.GetAttempt(), LeaseToken: d.GetLeaseToken(), LeaseMs: d.GetLeaseMs(),
			LeaseExpiresAt: stamp(d.GetLeaseExpiresAt()), Redelivered: d.GetRedelivered(), RedriveOf: d.GetRedriveOf(),
		})
	}
	return out
}

type jsonSettled struct {
	RepoID   string     `json:"repo_id"`
	Sequence uint64     `json:"sequence,string"`
	Error    *jsonError `json:"error,omitempty"`
}

type jsonRenewed struct {
	RepoID         string     `json:"repo_id"`
	LeaseToken     uint64     `json:"lease_token,string"`
	LeaseExpiresAt string     `json:"lease_expires_at,omitempty"`
	Error          *jsonError `json:"error,omitempty"`
}

// jsonList is the answer about several items. Error is there when all of them
// failed: it is the first one's, and gives the status.
type jsonList[T any] struct {
	Results []T        `json:"results"`
	Error   *jsonError `json:"error,omitempty"`
}

// PacketsJSON is a repository's packets in order.
type PacketsJSON struct {
	Packets []jsonPacket `json:"packets"`
	Head    uint64       `json:"head,string"`
}

// ReadJSON is what GET /v1/repos/{repo}/packets answers.
func ReadJSON(resp *waystationv1.ReadPacketsResponse) PacketsJSON {
	out := PacketsJSON{Packets: make([]jsonPacket, 0, len(resp.GetPackets())), Head: resp.GetHead()}
	for _, p := range resp.GetPackets() {
		out.Packets = append(out.Packets, packetJSON(p.GetPacket(), p.GetSequence(), p.GetAcceptedAt()))
	}
	return out
}

type jsonState struct {
	Group     string `json:"group"`
	State     string `json:"state"`
	Attempts  uint32 `json:"attempts"`
	Reason    string `json:"reason,omitempty"`
	LastError string `json:"last_error,omitempty"`
	Result    []byte `json:"result,omitempty"`
}

type jsonLookup struct {
	jsonPacket
	Groups []jsonState `json:"groups"`
}

type jsonGone struct {
	RepoID   string      `json:"repo_id"`
	Sequence uint64      `json:"sequence,string"`
	Groups   []jsonState `json:"groups"`
}

// lookupJSON is the packet and its state per group; without the packet's own
// fields when it is known and no longer kept.
func lookupJSON(repo string, resp *waystationv1.LookupPacketResponse) any {
	groups := make([]jsonState, 0, len(resp.GetGroups()))
	for _, g := range resp.GetGroups() {
		groups = append(groups, jsonState{
			Group: g.GetGroup(), State: g.GetState(), Attempts: g.GetAttempts(), Reason: g.GetReason(),
			LastError: g.GetLastError(), Result: g.GetResult(),
		})
	}
	p := resp.GetPacket()
	if p == nil {
		return jsonGone{RepoID: repo, Sequence: resp.GetSequence(), Groups: groups}
	}
	return jsonLookup{jsonPacket: packetJSON(p.GetPacket(), p.GetSequence(), p.GetAcceptedAt()), Groups: groups}
}

type jsonCursors struct {
	High   uint64 `json:"high,string"`
	Normal uint64 `json:"normal,string"`
	Low    uint64 `json:"low,string"`
}

type jsonGroup struct {
	Group       string      `json:"group"`
	Cursors     jsonCursors `json:"cursors"`
	LeasedUntil *string     `json:"leased_until"`
	Attempts    uint32      `json:"attempts"`
	LeaseToken  uint64      `json:"lease_token,omitempty,string"`
	ReadyAt     string      `json:"ready_at,omitempty"`
	Waiting     uint64      `json:"waiting,string"`
}

// RepositoryJSON is a repository's head, backlog and cursors.
type RepositoryJSON struct {
	RepoID       string      `json:"repo_id"`
	Head         uint64      `json:"head,string"`
	Backlog      uint64      `json:"backlog,string"`
	BacklogBytes uint64      `json:"backlog_bytes,string"`
	Partition    uint32      `json:"partition"`
	Parked       bool        `json:"parked"`
	Groups       []jsonGroup `json:"groups"`
}

// RepoJSON is what GET /v1/repos/{repo} answers.
func RepoJSON(resp *waystationv1.GetRepositoryResponse) RepositoryJSON {
	out := RepositoryJSON{
		RepoID: resp.GetRepoId(), Head: resp.GetHead(), Backlog: resp.GetBacklog(), BacklogBytes: resp.GetBacklogBytes(),
		Partition: resp.GetPartition(), Parked: resp.GetParked(), Groups: make([]jsonGroup, 0, len(resp.GetGroups())),
	}
	for _, g := range resp.GetGroups() {
		j := jsonGroup{
			Group: g.GetGroup(), Attempts: g.GetAttempts(), LeaseToken: g.GetLeaseToken(),
			ReadyAt: stamp(g.GetReadyAt()), Waiting: g.GetWaiting(),
			Cursors: jsonCursors{High: g.GetCursors().GetHigh(), Normal: g.GetCursors().GetNormal(), Low: g.GetCursors().GetLow()},
		}
		if t := stamp(g.GetLeasedUntil()); t != "" {
			j.LeasedUntil = &t
		}
		out.Groups = append(out.Groups, j)
	}
	return out
}

// stamp is RFC 3339 in UTC; empty for a time that is not there.
func stamp(t *timestamppb.Timestamp) string {
	if t == nil || (t.GetSeconds() == 0 && t.GetNanos() == 0) {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339Nano)
}

// seconds is a duration as protobuf's JSON has it; empty when not set.
func seconds(d *durationpb.Duration) string {
	if d == nil || d.AsDuration() == 0 {
		return ""
	}
	return jsonSeconds(d.AsDuration())
}
