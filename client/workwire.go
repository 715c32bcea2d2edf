package client

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/waystation/waystation/messages/wire"
)

// workResponse is a WorkResponse, read in place: what is in it aliases the
// response. It may be used again; only the deliveries are new each time.
type workResponse struct {
	deliveries  []received
	settlements []settlementResult
	renewals    []renewResult
	ready       bool
	draining    bool
}

// received is a delivery whose repository has no string yet.
type received struct {
	Delivery
	repo []byte
}

type settlementResult struct {
	repo     []byte
	sequence uint64
	err      *Error
}

type renewResult struct {
	repo  []byte
	token uint64
	err   *Error
}

func (r *workResponse) parse(message []byte) error {
	deliveries := 0
	if err := fields(message, func(n protowire.Number, _ uint64, _ []byte) error {
		if n == 1 {
			deliveries++
		}
		return nil
	}); err != nil {
		return fmt.Errorf("parse deliveries: %w", err)
	}
	*r = workResponse{settlements: r.settlements[:0], renewals: r.renewals[:0]}
	if deliveries > 0 {
		// One array for all of them, new each time: handlers may keep theirs.
		r.deliveries = make([]received, 0, deliveries)
	}
	if err := fields(message, r.field); err != nil {
		return fmt.Errorf("parse deliveries: %w", err)
	}
	return nil
}

func (r *workResponse) field(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 1:
		r.deliveries = append(r.deliveries, received{})
		return r.deliveries[len(r.deliveries)-1].parse(b)
	case 2:
		r.settlements = append(r.settlements, settlementResult{})
		return r.settlements[len(r.settlements)-1].parse(b)
	case 3:
		r.renewals = append(r.renewals, renewResult{})
		return r.renewals[len(r.renewals)-1].parse(b)
	case 4:
		r.ready = v != 0
	case 5:
		r.draining = v != 0
	}
	return nil
}

func (s *settlementResult) parse(message []byte) error {
	return fields(message, func(n protowire.Number, v uint64, b []byte) (err error) {
		switch n {
		case 1:
			s.repo = b
		case 2:
			s.sequence = v
		case 3:
			s.err, err = parseError(b)
		}
		return err
	})
}

func (r *renewResult) parse(message []byte) error {
	return fields(message, func(n protowire.Number, v uint64, b []byte) (err error) {
		switch n {
		case 1:
			r.repo = b
		case 2:
			r.token = v
		case 4:
			r.err, err = parseError(b)
		}
		return err
	})
}

func (d *received) parse(message []byte) error {
	var packet []byte
	err := fields(message, func(n protowire.Number, v uint64, b []byte) (err error) {
		switch n {
		case 1:
			packet = b
		case 2:
			d.Sequence = v
		case 3:
			d.Attempt = uint32(v)
		case 4:
			d.LeaseToken = v
		case 5:
			d.lease = millis(int64(uint32(v)))
		case 6:
			d.LeaseExpiresAt, err = parseTime(b)
		case 7:
			d.Redelivered = v != 0
		case 8:
			d.AcceptedAt, err = parseTime(b)
		case 9:
			d.RedriveOf = v
		}
		return err
	})
	if err != nil {
		return err
	}
	return d.parsePacket(packet)
}

func (d *received) parsePacket(raw []byte) error {
	var p wire.Packet
	if err := p.Parse(raw); err != nil {
		return err
	}
	d.repo = p.Repo
	d.Content = p.Content
	d.Priority, d.ContentEncoding = Priority(p.Priority), ContentEncoding(p.Encoding)
	d.crc, d.hasCRC = p.CRC, p.HasCRC
	if len(p.ID) > 0 {
		d.PacketID = string(p.ID)
	}
	if len(p.Kind) > 0 {
		d.Kind = string(p.Kind)
	}
	if len(p.Traceparent) > 0 {
		d.Traceparent = string(p.Traceparent)
	}
	if p.CreatedAtMs != 0 {
		d.CreatedAt = time.UnixMilli(p.CreatedAtMs).UTC()
	}
	if p.TTLMs != 0 && !d.AcceptedAt.IsZero() {
		d.ExpiresAt = d.AcceptedAt.Add(millis(p.TTLMs))
	}
	if p.MetadataPairs > 0 {
		d.Metadata = make(map[string]string, p.MetadataPairs)
		p.EachMetadata(func(k, v []byte) bool {
			d.Metadata[string(k)] = string(v)
			return true
		})
	}
	return nil
}

func parseTime(message []byte) (time.Time, error) {
	var seconds, nanos int64
	err := fields(message, func(n protowire.Number, v uint64, _ []byte) error {
		switch n {
		case 1:
			seconds = int64(v)
		case 2:
			nanos = int64(v)
		}
		return nil
	})
	return time.Unix(seconds, nanos).UTC(), err
}

func appendSettlement(b []byte, repo string, s *settlement) []byte {
	size := sizeText(len(repo)) + 1 + protowire.SizeVarint(s.sequence) + 1 + protowire.SizeVarint(s.token) + 2
	if s.message != "" {
		size += sizeText(len(s.message))
	}
	if len(s.result) > 0 {
		size += sizeText(len(s.result))
	}
	after := uint64(s.after.Milliseconds())
	if after > 0 {
		size += 1 + protowire.SizeVarint(after)
	}
	b = protowire.AppendVarint(append(b, 2<<3|byte(protowire.BytesType)), uint64(size))
	b = appendText(b, 1, repo)
	b = protowire.AppendVarint(append(b, 2<<3|byte(protowire.VarintType)), s.sequence)
	b = protowire.AppendVarint(append(b, 3<<3|byte(protowire.VarintType)), s.token)
	b = append(b, 4<<3|byte(protowire.VarintType), byte(s.outcome))
	if s.message != "" {
		b = appendText(b, 5, s.message)
	}
	if len(s.result) > 0 {
		b = appendText(b, 6, s.result)
	}
	if after > 0 {
		b = protowire.AppendVarint(append(b, 7<<3|byte(protowire.VarintType)), after)
	}
	return b
}

func appendLeaseRef(b []byte, repo string, token uint64) []byte {
	size := sizeText(len(repo)) + 1 + protowire.SizeVarint(token)
	b = protowire.AppendVarint(append(b, 3<<3|byte(protowire.BytesType)), uint64(size))
	b = appendText(b, 1, repo)
	return protowire.AppendVarint(append(b, 2<<3|byte(protowire.VarintType)), token)
}

func sizeText(n int) int { return 1 + protowire.SizeBytes(n) }

func appendText[T string | []byte](b []byte, number byte, v T) []byte {
	b = protowire.AppendVarint(append(b, number<<3|byte(protowire.BytesType)), uint64(len(v)))
	return append(b, v...)
}
