package meta

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// Operation is one change of the cluster, for people to read.
type Operation struct {
	// Seq counts the operations from 1; TimeMs is log time in milliseconds.
	Seq    uint64
	TimeMs int64
	Text   string
}

// MaxOperations is how many operations are kept.
const MaxOperations = 1000

const maxOperationText = 500

// cut returns at most n bytes of s, in whole runes, and all of it valid.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func operationKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(key(tableOperation), seq) }

func operationRecord(o Operation) Record {
	b := binary.BigEndian.AppendUint64([]byte{version1}, uint64(o.TimeMs))
	return Record{operationKey(o.Seq), appendBytes(b, []byte(o.Text))}
}

func parseOperation(k, b []byte) (Operation, error) {
	if len(k) != len(key(tableOperation))+8 {
		return Operation{}, errBroken
	}
	d := decode(b)
	o := Operation{Seq: binary.BigEndian.Uint64(k[3:]), TimeMs: int64(d.u64()), Text: string(d.bytes())}
	return o, d.end()
}
