package transport

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

// Version is the protocol that this build speaks, OldestVersion the oldest one
// that it still understands. Two builds that understand a common one can talk.
const (
	Version       = 1
	OldestVersion = 1
)

// magic begins a connection of ours. It and the hello's layout stay as they are
// in all versions.
var magic = [8]byte{'W', 'A', 'Y', 'S', 'T', 'N', 0, 1}

// preface begins an HTTP/2 connection.
const preface = "PRI * HTTP/2.0\r\n"

const (
	maxHello = 64 << 10
	maxName  = 1 << 10
	maxText  = 4 << 10
)

// Lane says what a connection is for.
type Lane uint8

// The lanes.
const (
	LaneRaft     Lane = 1
	LaneSnapshot Lane = 2
)

// String returns the lane's name.
func (l Lane) String() string {
	switch l {
	case LaneRaft:
		return "raft"
	case LaneSnapshot:
		return "snapshot"
	}
	return fmt.Sprintf("lane %d", uint8(l))
}

// Hello is how a node introduces itself, when it dials and when it answers.
type Hello struct {
	// Version and Oldest bound the protocol versions that it understands.
	Version, Oldest uint32
	Cluster         meta.ClusterID
	Node            identity.NodeID
	Boot, Life      uint64
	Name            string
	Feature, Format uint32
	// Wall is its clock, Unix nanoseconds.
	Wall int64
	// Dialled is the node that the sender means to talk to; zero in an answer.
	Dialled identity.NodeID
	Lane    Lane

	// Remote and TLS are what the connection says about the peer. They are not
	// sent. TLS is nil without it.
	Remote net.Addr
	TLS    *tls.ConnectionState
}

// Fields of a hello. Numbers are never used again; one that is not known is
// skipped, so that later builds may add some.
const (
	helloVersion = 1 + iota
	helloOldest
	helloCluster
	helloNode
	helloBoot
	helloLife
	helloName
	helloFeature
	helloFormat
	helloWall
	helloDialled
	helloLane
)

// errHello says that what came is no hello.
var errHello = errors.New("bad hello")

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func (h *Hello) append(b []byte) []byte {
	b = appendNumber(b, helloVersion, uint64(h.Version))
	b = appendNumber(b, helloOldest, uint64(h.Oldest))
	b = appendBytes(b, helloCluster, h.Cluster[:])
	b = appendBytes(b, helloNode, h.Node[:])
	b = appendNumber(b, helloBoot, h.Boot)
	b = appendNumber(b, helloLife, h.Life)
	b = appendBytes(b, helloName, []byte(h.Name))
	b = appendNumber(b, helloFeature, uint64(h.Feature))
	b = appendNumber(b, helloFormat, uint64(h.Format))
	b = appendNumber(b, helloWall, uint64(h.Wall))
	b = appendBytes(b, helloDialled, h.Dialled[:])
	return appendNumber(b, helloLane, uint64(h.Lane))
}

func parseHello(b []byte) (h Hello, err error) {
	err = eachField(b, func(num protowire.Number, v uint64, data []byte) bool {
		switch num {
		case helloVersion:
			h.Version = uint32(v)
		case helloOldest:
			h.Oldest = uint32(v)
		case helloCluster:
			return fill(h.Cluster[:], data)
		case helloNode:
			return fill(h.Node[:], data)
		case helloBoot:
			h.Boot = v
		case helloLife:
			h.Life = v
		case helloName:
			h.Name = string(data)
			return len(data) <= maxName
		case helloFeature:
			h.Feature = uint32(v)
		case helloFormat:
			h.Format = uint32(v)
		case helloWall:
			h.Wall = int64(v)
		case helloDialled:
			return fill(h.Dialled[:], data)
		case helloLane:
			h.Lane = Lane(v)
			return v <= 0xff
		}
		return true
	})
	if err == nil && (h.Version == 0 || h.Node.IsZero()) {
		err = fmt.Errorf("%w: no version or no node", errHello)
	}
	return h, err
}

func fill(to, from []byte) bool { return copy(to, from) == len(to) && len(from) == len(to) }

// eachField walks over fields. use says whether it takes a field's value.
func eachField(b []byte, use func(num protowire.Number, v uint64, data []byte) bool) error {
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok || !use(protowire.Number(f.tag>>3), f.num, f.data) {
			return fmt.Errorf("%w: field %d", errHello, f.tag>>3)
		}
		b = rest
	}
	return nil
}

// writeBlock writes a hello or the answer to one: length u32, CRC32C u32, body.
// prefix goes in front, in the same write.
func writeBlock(w io.Writer, prefix, body []byte) error {
	b := append(make([]byte, 0, len(prefix)+8+len(body)), prefix...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	_, err := w.Write(append(b, body...))
	return err
}

// readBlock reads what writeBlock wrote after the prefix.
func readBlock(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, noEOF(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxHello {
		return nil, fmt.Errorf("%w: %d bytes, %d are the most", errHello, size, maxHello)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, noEOF(err)
	}
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("%w: checksum differs", errHello)
	}
	return body, nil
}

// Fields of the answer to a hello.
const (
	answerCode = 1 + iota
	answerText
	answerHello
)

// appendAnswer lays an answer out: the code, its text, and the own hello.
func appendAnswer(b []byte, r *Refusal, own Hello) []byte {
	if r != nil {
		b = appendNumber(b, answerCode, uint64(r.Code))
		b = appendBytes(b, answerText, []byte(cutText(r.Text)))
	}
	return appendBytes(b, answerHello, own.append(nil))
}

// parseAnswer returns the peer's hello, and its refusal if it is one.
func parseAnswer(b []byte) (h Hello, r *Refusal, err error) {
	code, text := RefusalCode(0), ""
	var inner error
	err = eachField(b, func(num protowire.Number, v uint64, data []byte) bool {
		switch num {
		case answerCode:
			code = RefusalCode(min(v, uint64(refusedOther)))
		case answerText:
			text = cutText(string(data))
		case answerHello:
			h, inner = parseHello(data)
		}
		return true
	})
	if err = errors.Join(err, inner); err == nil && h.Version == 0 {
		err = fmt.Errorf("%w: no hello in the answer", errHello)
	}
	if code != 0 {
		r = &Refusal{Code: code, Text: text}
	}
	return h, r, err
}

func cutText(s string) string { return s[:min(len(s), maxText)] }
