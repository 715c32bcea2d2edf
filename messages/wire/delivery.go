package wire

// DeliveryView is one Delivery around a packet's own bytes.
type DeliveryView struct {
	// Packet is the CodePacket as it was sent.
	Packet []byte
	// Sequence, LeaseToken and Attempt are as in Delivery.
	Sequence, LeaseToken uint64
	// Attempt counts from 1; LeaseMs is milliseconds.
	Attempt, LeaseMs uint32
	// LeaseExpiresMs and AcceptedMs are milliseconds since the Unix epoch; 0: left out.
	LeaseExpiresMs, AcceptedMs int64
	// Redelivered is as in Delivery.
	Redelivered bool
	// RedriveOf is as in Delivery; 0: left out.
	RedriveOf uint64
	// AddCRC writes CRC as the packet's content_crc32c, for a sender who gave
	// none; one that the packet carries itself wins over it.
	AddCRC bool
	// CRC is the content's, when AddCRC is set.
	CRC uint32
}

// StoredView is one StoredPacket around a packet's own bytes.
type StoredView struct {
	// Packet is the CodePacket as it was sent.
	Packet []byte
	// Sequence is the packet's number in its repository.
	Sequence uint64
	// AcceptedMs is milliseconds since the Unix epoch; 0: left out.
	AcceptedMs int64
	// AddCRC and CRC are as in DeliveryView.
	AddCRC bool
	// CRC is the content's, when AddCRC is set.
	CRC uint32
}

// AppendDelivery appends d to b as field 1, which is an element of deliveries in
// WorkResponse and in PullResponse. Any number of them, and the message's other
// fields, may follow one another in any order.
func AppendDelivery(b []byte, d *DeliveryView) []byte {
	return append(AppendDeliveryHead(b, d), d.Packet...)
}

// AppendDeliveryHead is AppendDelivery without the packet's bytes, which must
// follow as they are: for a transport that takes them from where they lie.
func AppendDeliveryHead(b []byte, d *DeliveryView) []byte {
	expires, accepted := timestamp(d.LeaseExpiresMs), timestamp(d.AcceptedMs)
	size := sizeUint(d.Sequence) + sizeUint(uint64(d.Attempt)) + sizeUint(d.LeaseToken) +
		sizeUint(uint64(d.LeaseMs)) + sizeTime(expires) + sizeBool(d.Redelivered) + sizeTime(accepted) + sizeUint(d.RedriveOf) +
		sizeLen(sizeEmbedded(d.Packet, d.AddCRC))
	b = appendLen(b, 1<<3|byte(bytes), size)
	b = appendUint(b, 2<<3|byte(varint), d.Sequence)
	b = appendUint(b, 3<<3|byte(varint), uint64(d.Attempt))
	b = appendUint(b, 4<<3|byte(varint), d.LeaseToken)
	b = appendUint(b, 5<<3|byte(varint), uint64(d.LeaseMs))
	b = appendTime(b, 6<<3|byte(bytes), expires)
	b = appendBool(b, 7<<3|byte(varint), d.Redelivered)
	b = appendTime(b, 8<<3|byte(bytes), accepted)
	b = appendUint(b, 9<<3|byte(varint), d.RedriveOf)
	return appendPacketHead(b, d.Packet, d.AddCRC, d.CRC)
}

// AppendStoredPacket appends s to b as field 1, which is an element of packets
// in ReadPacketsResponse and is packet in LookupPacketResponse.
func AppendStoredPacket(b []byte, s *StoredView) []byte {
	return append(AppendStoredPacketHead(b, s), s.Packet...)
}

// AppendStoredPacketHead is AppendStoredPacket without the packet's bytes, which
// must follow as they are.
func AppendStoredPacketHead(b []byte, s *StoredView) []byte {
	accepted := timestamp(s.AcceptedMs)
	size := sizeUint(s.Sequence) + sizeTime(accepted) + sizeLen(sizeEmbedded(s.Packet, s.AddCRC))
	b = appendLen(b, 1<<3|byte(bytes), size)
	b = appendUint(b, 2<<3|byte(varint), s.Sequence)
	b = appendTime(b, 3<<3|byte(bytes), accepted)
	return appendPacketHead(b, s.Packet, s.AddCRC, s.CRC)
}

func sizeEmbedded(packet []byte, addCRC bool) int {
	if addCRC {
		return len(packet) + sizeFixed32
	}
	return len(packet)
}

// appendPacketHead begins field 1 of Delivery and StoredPacket. An added CRC
// stands before the packet: the packet's own comes later and so wins, and the
// packet stays the last and may be left where it lies.
func appendPacketHead(b, packet []byte, addCRC bool, crc uint32) []byte {
	b = appendLen(b, 1<<3|byte(bytes), sizeEmbedded(packet, addCRC))
	if addCRC {
		b = appendFixed32(b, 13<<3|byte(fixed32), crc)
	}
	return b
}
