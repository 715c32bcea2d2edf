// Package wire walks and writes the hot protobuf messages of waystation.v1 in
// place, without an allocation per packet.
//
// The generated code copies every content and every string of a frame. Here a
// Packet is a view: its slices alias the bytes that it was parsed from, and are
// valid as long as these are. Nothing in this package keeps a slice beyond the
// view that it returns, and nothing changes the bytes it is given.
//
// Parse accepts and refuses what google.golang.org/protobuf accepts and refuses,
// and reads the same values from it: the last one of a repeated singular field
// wins, a repeated nested message is merged, unknown fields and known ones of
// another wire type are skipped, strings must be UTF-8. What the bytes mean is
// judged apart from that, by Validate.
//
// The Append functions give bytes that generated code reads. They append to the
// slice that they are given, as append does, and keep nothing. A packet is the
// last field of what embeds it, so that a sender may leave it where it lies and
// write only the head in front of it.
package wire
