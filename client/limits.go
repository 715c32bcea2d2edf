package client

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// The limits of API.md that no setting of a node changes. A packet beyond them
// is refused here already: refused by the server, it would cost the packets
// behind it a round and an epoch.
const (
	maxRepoID        = 512
	maxContent       = 8 << 20
	maxMetadataPairs = 64
	maxMetadataBytes = 16 << 10
	maxPacketID      = 256
	maxKind          = 64
	maxTraceparent   = 128
	maxProducer      = 128
	maxWorkerName    = 128
	maxWorkerVersion = 128
	maxWorkerPairs   = 16
	maxWorkerBytes   = 4 << 10
	maxFrameBytes    = 4 << 20
	maxError         = 4 << 10
	maxResult        = 1 << 20
	maxRetryAfter    = 24 * time.Hour
)

// check returns an *Error with INVALID_ARGUMENT, or nil.
func (p *Packet) check() error {
	if len(p.RepoID) == 0 {
		return invalid("repo_id", "is empty")
	}
	if err := checkText("repo_id", p.RepoID, maxRepoID); err != nil {
		return err
	}
	if len(p.Content) > maxContent {
		return invalid("content", fmt.Sprintf("%d bytes, at most %d", len(p.Content), maxContent))
	}
	if p.Metadata != nil {
		if err := checkMetadata(p.Metadata); err != nil {
			return err
		}
	}
	if p.PacketID != "" || p.Kind != "" || p.Traceparent != "" {
		if err := p.checkTexts(); err != nil {
			return err
		}
	}
	return p.checkScalars()
}

func (p *Packet) checkTexts() error {
	if err := checkText("packet_id", p.PacketID, maxPacketID); err != nil {
		return err
	}
	if err := checkText("kind", p.Kind, maxKind); err != nil {
		return err
	}
	return checkText("traceparent", p.Traceparent, maxTraceparent)
}

func (p *Packet) checkScalars() error {
	switch {
	case p.Priority > PriorityLow:
		return invalid("priority", fmt.Sprintf("%d is none of normal, high, low", p.Priority))
	case p.ContentEncoding > EncodingZstd:
		return invalid("content_encoding", fmt.Sprintf("%d is none of identity, gzip, zstd", p.ContentEncoding))
	case p.TimeToLive < 0:
		return invalid("time_to_live", "is negative")
	case p.DeliverAfter < 0:
		return invalid("deliver_after", "is negative")
	case p.TimeToLive > 0 && p.DeliverAfter >= p.TimeToLive.Truncate(time.Millisecond):
		return invalid("deliver_after", "must be shorter than time_to_live")
	}
	return nil
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return invalid(field, fmt.Sprintf("%d bytes, at most %d", len(s), limit))
	}
	if !utf8.ValidString(s) {
		return invalid(field, "is not UTF-8")
	}
	return nil
}

func checkMetadata(m map[string]string) error {
	if len(m) > maxMetadataPairs {
		return invalid("metadata", fmt.Sprintf("%d pairs, at most %d", len(m), maxMetadataPairs))
	}
	total := 0
	for k, v := range m {
		total += len(k) + len(v)
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return invalid("metadata", "is not UTF-8")
		}
	}
	if total > maxMetadataBytes {
		return invalid("metadata", fmt.Sprintf("%d bytes, at most %d", total, maxMetadataBytes))
	}
	return nil
}

func invalid(field, message string) error {
	return &Error{Code: CodeInvalidArgument, Field: field, Message: message}
}
