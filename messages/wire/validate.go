package wire

import (
	"hash/crc32"
)

// MaxDurationMs is the longest time to live or delay: ten years of 365 days.
const MaxDurationMs = 10 * 365 * 24 * 3600 * 1000

// maxTimestampMs is the last millisecond of the year 9999, where the JSON form
// of a Timestamp ends.
const maxTimestampMs = 253402300799999

// Values that the enums have so far.
const (
	lastPriority = 2
	lastEncoding = 2
)

// ContentCRC returns the CRC-32C (Castagnoli) of content.
func ContentCRC(content []byte) uint32 {
	// MakeTable returns the package's own table for this polynomial: no cost.
	return crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
}

// Validate judges a parsed packet. The error is a *FieldError, the first one in
// the order of the fields' numbers, or Bad. After nil, CRC is the content's,
// whether it was sent or not: it is computed here and need not be again.
func (p *Packet) Validate(l *Limits) error {
	if err := p.validate(l); err != nil {
		return err
	}
	return nil
}

func (p *Packet) validate(l *Limits) *FieldError {
	if p.Bad != nil {
		return p.Bad
	}
	if err := p.validateLengths(l); err != nil {
		return err
	}
	if err := p.validatePosition(l); err != nil {
		return err
	}
	if err := p.validateTimes(); err != nil {
		return err
	}
	switch {
	case p.Priority > lastPriority:
		return refuse("priority", "is unknown: NORMAL (0), HIGH (1) and LOW (2) are known")
	case p.Encoding > lastEncoding:
		return refuse("content_encoding", "is unknown: IDENTITY (0), GZIP (1) and ZSTD (2) are known")
	}
	return p.validateCRC()
}

func (p *Packet) validateLengths(l *Limits) *FieldError {
	switch {
	case len(p.Repo) == 0:
		return refuse("repo_id", "is empty: 1 to %d bytes of UTF-8 name the repository", l.RepoID)
	case len(p.Repo) > l.RepoID:
		return tooLong("repo_id", len(p.Repo), l.RepoID)
	case len(p.Content) > l.Content:
		return tooLong("content", len(p.Content), l.Content)
	case p.MetadataPairs > l.MetadataPairs:
		return refuse("metadata", "has %d pairs, at most %d are allowed", p.MetadataPairs, l.MetadataPairs)
	case p.MetadataBytes > l.MetadataBytes:
		return tooLong("metadata", p.MetadataBytes, l.MetadataBytes)
	case len(p.ID) > l.PacketID:
		return tooLong("packet_id", len(p.ID), l.PacketID)
	case len(p.Kind) > l.Kind:
		return tooLong("kind", len(p.Kind), l.Kind)
	case len(p.Traceparent) > maxTraceparent:
		return tooLong("traceparent", len(p.Traceparent), maxTraceparent)
	case len(p.Raw)-len(p.Content) > l.Overhead:
		return refuse("packet", "has %d bytes beside its content, at most %d are allowed: look for unknown or repeated fields",
			len(p.Raw)-len(p.Content), l.Overhead)
	}
	return nil
}

func tooLong(field string, has, limit int) *FieldError {
	return refuse(field, "has %d bytes, at most %d are allowed", has, limit)
}

func (p *Packet) validatePosition(l *Limits) *FieldError {
	switch {
	case !p.HasPosition:
		return nil
	case len(p.Producer) == 0:
		return refuse("position.producer", "is empty: 1 to %d bytes of UTF-8 name the producer", l.Producer)
	case len(p.Producer) > l.Producer:
		return tooLong("position.producer", len(p.Producer), l.Producer)
	case p.Epoch == 0:
		return refuse("position.epoch", "is 0: epochs count from 1")
	case p.Sequence == 0:
		return refuse("position.sequence", "is 0: sequences count from 1 per repository and epoch")
	}
	return nil
}

func (p *Packet) validateTimes() *FieldError {
	if err := validateDuration("time_to_live", p.TTLMs); err != nil {
		return err
	}
	if err := validateDuration("deliver_after", p.DeliverAfterMs); err != nil {
		return err
	}
	switch {
	case p.TTLMs > 0 && p.DeliverAfterMs >= p.TTLMs:
		return refuse("deliver_after", "is %d ms, not shorter than time_to_live of %d ms: the packet could never be delivered",
			p.DeliverAfterMs, p.TTLMs)
	case p.CreatedAtMs == malformed:
		return refuse("created_at", "has nanos outside 0 to 999,999,999")
	case p.CreatedAtMs < 0 || p.CreatedAtMs > maxTimestampMs:
		return refuse("created_at", "is outside the years 1970 to 9999")
	}
	return nil
}

func validateDuration(field string, ms int64) *FieldError {
	switch {
	case ms == malformed:
		return refuse(field, "has nanos outside -999,999,999 to 999,999,999, or of another sign than its seconds")
	case ms < 0:
		return refuse(field, "is negative: leave it out, or give a positive time")
	case ms > MaxDurationMs:
		return refuse(field, "is longer than ten years")
	}
	return nil
}

func (p *Packet) validateCRC() *FieldError {
	crc := ContentCRC(p.Content)
	if p.HasCRC && p.CRC != crc {
		return refuse("content_crc32c", "is 0x%08x, the content's is 0x%08x: it was damaged on its way, or the CRC is not CRC-32C; send it again",
			p.CRC, crc)
	}
	p.CRC = crc
	return nil
}
