package wire

import "unicode/utf8"

// Packet is a view on the bytes of one CodePacket. Its slices alias them: they
// must not be changed, and are valid as long as the buffer is. The zero value is
// ready for Parse, and may be used again and again.
type Packet struct {
	// Raw is the whole CodePacket, as it was sent.
	Raw []byte
	// Repo is repo_id, ID packet_id, Producer position.producer.
	Repo, Content, ID, Producer, Kind, Traceparent []byte
	// Epoch and Sequence are the position, with Producer.
	Epoch, Sequence uint64
	// HasPosition and HasCRC say whether the sender gave them.
	HasPosition, HasCRC bool
	// Priority and Encoding are the values of the enums; 255 stands for any
	// value that does not fit.
	Priority, Encoding uint8
	// CRC is content_crc32c as sent; Validate sets it in any case.
	CRC uint32
	// TTLMs and DeliverAfterMs are milliseconds, rounded away from zero; 0: not set.
	TTLMs, DeliverAfterMs int64
	// CreatedAtMs is milliseconds since the Unix epoch; 0: not set.
	CreatedAtMs int64
	// MetadataPairs counts the pairs as sent, those of one key too;
	// MetadataBytes sums their keys and values.
	MetadataPairs, MetadataBytes int
	// Bad is why this packet of a frame does not parse; Validate returns it. The
	// other fields are then incomplete.
	Bad *FieldError
}

// moments gathers the nested times of a packet until all of it has been seen.
type moments struct {
	ttl, deliverAfter, created seconds
}

// Parse reads raw, a CodePacket, into p and keeps it. The error is a *FieldError:
// not protobuf, or a string that is not UTF-8. Lengths and values are not judged.
func (p *Packet) Parse(raw []byte) error {
	if err := p.parse(raw); err != nil {
		return err
	}
	return nil
}

func (p *Packet) parse(raw []byte) *FieldError {
	*p = Packet{Raw: raw}
	var m moments
	s := scan(raw)
	for s.next() {
		var err *FieldError
		switch s.key {
		case 6<<3 | varint:
			p.Priority = s.enum()
		case 7<<3 | varint:
			p.Encoding = s.enum()
		case 13<<3 | fixed32:
			p.CRC, p.HasCRC = uint32(s.value), true
		default:
			if s.key&7 == bytes {
				err = p.parseBytes(s.key>>3, s.bytes, &m)
			}
		}
		if err != nil {
			p.Bad = err
			return err
		}
	}
	if s.bad {
		p.Bad = broken("packet")
		return p.Bad
	}
	p.TTLMs = m.ttl.durationMs()
	p.DeliverAfterMs = m.deliverAfter.durationMs()
	p.CreatedAtMs = m.created.timestampMs()
	return nil
}

func (p *Packet) parseBytes(number uint64, v []byte, m *moments) *FieldError {
	switch number {
	case 1:
		return str(&p.Repo, v, "repo_id")
	case 2:
		p.Content = v
	case 3:
		return p.countMetadata(v)
	case 4:
		return str(&p.ID, v, "packet_id")
	case 5:
		return p.parsePosition(v)
	case 8:
		return str(&p.Kind, v, "kind")
	case 9:
		return nested(m.ttl.merge(v), "time_to_live")
	case 10:
		return nested(m.deliverAfter.merge(v), "deliver_after")
	case 11:
		return nested(m.created.merge(v), "created_at")
	case 12:
		return str(&p.Traceparent, v, "traceparent")
	}
	return nil
}

func str(dst *[]byte, v []byte, field string) *FieldError {
	if !utf8.Valid(v) {
		return notUTF8(field)
	}
	*dst = v
	return nil
}

func nested(ok bool, field string) *FieldError {
	if !ok {
		return broken(field)
	}
	return nil
}

func (p *Packet) parsePosition(message []byte) *FieldError {
	p.HasPosition = true
	s := scan(message)
	for s.next() {
		switch s.key {
		case 1<<3 | bytes:
			if err := str(&p.Producer, s.bytes, "position.producer"); err != nil {
				return err
			}
		case 2<<3 | varint:
			p.Epoch = s.value
		case 3<<3 | varint:
			p.Sequence = s.value
		}
	}
	return nested(!s.bad, "position")
}

func (p *Packet) countMetadata(entry []byte) *FieldError {
	k, v, err := parsePair(entry)
	if err != nil {
		return err
	}
	p.MetadataPairs++
	p.MetadataBytes += len(k) + len(v)
	return nil
}

func parsePair(entry []byte) (k, v []byte, err *FieldError) {
	s := scan(entry)
	for s.next() && err == nil {
		switch s.key {
		case 1<<3 | bytes:
			err = str(&k, s.bytes, "metadata")
		case 2<<3 | bytes:
			err = str(&v, s.bytes, "metadata")
		}
	}
	if s.bad && err == nil {
		err = broken("metadata")
	}
	return k, v, err
}

// EachMetadata calls visit with each pair in the order sent, until it returns
// false. The slices alias Raw. A key may come more than once: its last value counts.
func (p *Packet) EachMetadata(visit func(k, v []byte) bool) {
	if p.MetadataPairs == 0 {
		return
	}
	s := scan(p.Raw)
	for s.next() {
		if s.key != 3<<3|bytes {
			continue
		}
		if k, v, err := parsePair(s.bytes); err != nil || !visit(k, v) {
			return
		}
	}
}
