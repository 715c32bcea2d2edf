package workload

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Mark is what a packet carries so that it is recognised wherever it turns up:
// which one it is, and a checksum by which its content is known to be whole.
type Mark struct {
	// Run tells packets of different runs apart.
	Run uint32
	// Repo and Index name the packet: the how-manieth of which repository.
	Repo, Index uint32
}

// MarkSize is how many bytes a Mark takes at the start of a content, and the
// smallest content that can hold one.
const MarkSize = 16

// MarkKey is the metadata key of a mark that the content has no room for.
const MarkKey = "loadtest"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Stamp writes the mark over content's first MarkSize bytes. The rest must not
// change afterwards.
func (m Mark) Stamp(content []byte) {
	m.head(content)
	binary.BigEndian.PutUint32(content[12:MarkSize], sum(content[:12], content[MarkSize:]))
}

func (m Mark) head(b []byte) {
	_ = b[11]
	binary.BigEndian.PutUint32(b, m.Run)
	binary.BigEndian.PutUint32(b[4:], m.Repo)
	binary.BigEndian.PutUint32(b[8:], m.Index)
}

func sum(head, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, rest)
}

// Stamped returns the mark at content's start; ok says whether there is one and
// the content is as it was stamped.
func Stamped(content []byte) (m Mark, ok bool) {
	if len(content) < MarkSize {
		return Mark{}, false
	}
	m = Mark{
		Run:   binary.BigEndian.Uint32(content),
		Repo:  binary.BigEndian.Uint32(content[4:]),
		Index: binary.BigEndian.Uint32(content[8:]),
	}
	return m, binary.BigEndian.Uint32(content[12:]) == sum(content[:12], content[MarkSize:])
}

// Text returns the mark for the metadata of a packet with this content:
// "run.repo.index.crc", in hexadecimal.
func (m Mark) Text(content []byte) string {
	var head [12]byte
	m.head(head[:])
	b := make([]byte, 0, 36)
	for _, part := range [...]uint32{m.Run, m.Repo, m.Index} {
		b = append(strconv.AppendUint(b, uint64(part), 16), '.')
	}
	return string(strconv.AppendUint(b, uint64(sum(head[:], content)), 16))
}

// ParseMark reads what Text wrote; ok says whether it is a mark and belongs to
// this content.
func ParseMark(text string, content []byte) (m Mark, ok bool) {
	var parts [4]uint32
	for i := range parts {
		part, rest, more := strings.Cut(text, ".")
		value, err := strconv.ParseUint(part, 16, 32)
		if err != nil || more != (i < len(parts)-1) {
			return Mark{}, false
		}
		parts[i], text = uint32(value), rest
	}
	m = Mark{Run: parts[0], Repo: parts[1], Index: parts[2]}
	var head [12]byte
	m.head(head[:])
	return m, parts[3] == sum(head[:], content)
}

// String names the packet in messages to people.
func (m Mark) String() string { return fmt.Sprintf("packet %d of repository %d", m.Index, m.Repo) }
