package wire

// Parse reads message, a Delivery, into d. Packet aliases message; of a CRC that
// was added only the packet knows. The error is a *FieldError.
func (d *DeliveryView) Parse(message []byte) error {
	*d = DeliveryView{}
	var expires, accepted seconds
	ok := true
	s := scan(message)
	for ok && s.next() {
		switch s.key {
		case 1<<3 | bytes:
			d.Packet = s.bytes
		case 2<<3 | varint:
			d.Sequence = s.value
		case 3<<3 | varint:
			d.Attempt = uint32(s.value)
		case 4<<3 | varint:
			d.LeaseToken = s.value
		case 5<<3 | varint:
			d.LeaseMs = uint32(s.value)
		case 6<<3 | bytes:
			ok = expires.merge(s.bytes)
		case 7<<3 | varint:
			d.Redelivered = s.value != 0
		case 8<<3 | bytes:
			ok = accepted.merge(s.bytes)
		case 9<<3 | varint:
			d.RedriveOf = s.value
		}
	}
	if !ok || s.bad {
		return broken("deliveries")
	}
	d.LeaseExpiresMs, d.AcceptedMs = expires.timestampMs(), accepted.timestampMs()
	return nil
}

// Parse reads message, a StoredPacket, into v. Packet aliases message. The error
// is a *FieldError.
func (v *StoredView) Parse(message []byte) error {
	*v = StoredView{}
	var accepted seconds
	ok := true
	s := scan(message)
	for ok && s.next() {
		switch s.key {
		case 1<<3 | bytes:
			v.Packet = s.bytes
		case 2<<3 | varint:
			v.Sequence = s.value
		case 3<<3 | bytes:
			ok = accepted.merge(s.bytes)
		}
	}
	if !ok || s.bad {
		return broken("packets")
	}
	v.AcceptedMs = accepted.timestampMs()
	return nil
}

// WalkFirst calls visit with each element of field 1 of message: a response's
// deliveries, or stored packets. It returns visit's first error, or a *FieldError
// when message is not protobuf.
func WalkFirst(message []byte, visit func(element []byte) error) error {
	s := scan(message)
	for s.next() {
		if s.key != 1<<3|bytes {
			continue
		}
		if err := visit(s.bytes); err != nil {
			return err
		}
	}
	if s.bad {
		return broken("response")
	}
	return nil
}

// UintField returns the last value of a varint field of message; 0 if it is not
// there. The error is a *FieldError.
func UintField(message []byte, number uint64) (v uint64, err error) {
	s := scan(message)
	for s.next() {
		if s.key == number<<3|varint {
			v = s.value
		}
	}
	if s.bad {
		return 0, broken("response")
	}
	return v, nil
}

// RepoOf returns a packet's repo_id without reading the rest of it. It aliases
// packet. The error is a *FieldError.
func RepoOf(packet []byte) (repo []byte, err error) {
	s := scan(packet)
	for s.next() {
		if s.key == 1<<3|bytes {
			repo = s.bytes
		}
	}
	if s.bad {
		return nil, broken("packet")
	}
	return repo, nil
}
