package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The first byte of each key of `log`. What is new gets a new byte: none is used again.
const (
	prefixNode  = 0x01 // + name
	prefixGroup = 0x02 // + group u32 + field u8
	prefixEntry = 0x03 // + group u32 + index u64 + chunk u32

	// 0x04 was a record of format 1.

	prefixLost = 0x05 // alone: there were frames of which nobody knows what they did
)

// The fields under prefixGroup.
const (
	fieldReplica   = 0x01
	fieldHardState = 0x02
	fieldTruncated = 0x03
	fieldInstall   = 0x04
	fieldDamage    = 0x05 // what is damaged of the group; goes with it
)

const (
	groupKeySize = 1 + 4 + 1
	entryKeySize = 1 + 4 + 8 + 4

	// chunkHeader is what precedes the data in each chunk: type u8, size u32, term u64, start u64.
	chunkHeader = 1 + 4 + 8 + 8
	// chunkData is how much of an entry each chunk but the last holds. Checksum, key, header and
	// data together stay within 8 KiB, so that reading one packet never costs more than that
	// (twice at a chunk's edge). It is part of the format.
	chunkData = 8<<10 - 64
	// chunkOverhead is what a chunk takes beside its data.
	chunkOverhead = crcSize + entryKeySize + chunkHeader
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func putGroupKey(dst []byte, g GroupID, field byte) {
	dst[0] = prefixGroup
	binary.BigEndian.PutUint32(dst[1:], uint32(g))
	dst[5] = field
}

func putEntryKey(dst []byte, g GroupID, index uint64, chunk uint32) {
	dst[0] = prefixEntry
	binary.BigEndian.PutUint32(dst[1:], uint32(g))
	binary.BigEndian.PutUint64(dst[5:], index)
	binary.BigEndian.PutUint32(dst[13:], chunk)
}

func entryKey(g GroupID, index uint64, chunk uint32) []byte {
	k := make([]byte, entryKeySize)
	putEntryKey(k, g, index, chunk)
	return k
}

func groupKey(g GroupID, field byte) []byte {
	k := make([]byte, groupKeySize)
	putGroupKey(k, g, field)
	return k
}

func parseGroupKey(k []byte) (g GroupID, field byte, ok bool) {
	if len(k) != groupKeySize || k[0] != prefixGroup {
		return 0, 0, false
	}
	return GroupID(binary.BigEndian.Uint32(k[1:])), k[5], true
}

func nodeKey(name []byte) []byte {
	return append([]byte{prefixNode}, name...)
}

// describeLogKey puts a key into words, for errors.
func describeLogKey(key []byte) string {
	switch {
	case len(key) == entryKeySize && key[0] == prefixEntry:
		return fmt.Sprintf("group %d index %d chunk %d", binary.BigEndian.Uint32(key[1:]),
			binary.BigEndian.Uint64(key[5:]), binary.BigEndian.Uint32(key[13:]))
	case len(key) == groupKeySize && key[0] == prefixGroup:
		names := map[byte]string{
			fieldReplica: "replica record", fieldHardState: "hard state", fieldTruncated: "truncation", fieldInstall: "install",
			fieldDamage: "damage",
		}
		return fmt.Sprintf("group %d %s", binary.BigEndian.Uint32(key[1:]), names[key[5]])
	case len(key) > 1 && key[0] == prefixNode:
		return fmt.Sprintf("node record %q", key[1:])
	}
	return ""
}

// chunks is the number of chunks of an entry with size bytes. An empty entry has one.
func chunks(size int) int {
	if size == 0 {
		return 1
	}
	return (size + chunkData - 1) / chunkData
}

// storedBytes is what an entry of size bytes takes in the log.
func storedBytes(size int) uint64 {
	return uint64(size) + uint64(chunks(size))*chunkOverhead
}
