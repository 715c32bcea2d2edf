package storage

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestGolden holds the bytes of `log` to testdata/log.golden. What is in there is on
// somebody's disk: a difference is a new format version, and never a new golden file alone.
func TestGolden(t *testing.T) {
	c := DefaultLogConfig("log")
	c.FS, c.Logger = vfs.NewMem(), slog.New(slog.DiscardHandler)
	l, err := OpenLog(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b := l.NewBatch()
	b.PutNode([]byte("id"), []byte{0xde, 0xad, 0xbe, 0xef})
	b.PutReplica(ReplicaMeta{Group: 0x01020304, Replica: 0x1112131415161718, State: ReplicaLive, Truncated: Position{5, 4}})
	b.SetHardState(0x01020304, HardState{Term: 0x21, Vote: 0x22, Commit: 0x23})
	b.Append(0x01020304, []Entry{
		{Index: 6, Term: 7, Type: 1},
		{Index: 7, Term: 0x0102030405060708, Type: 2, Data: []byte("payload")},
		{Index: 8, Term: 0x0102030405060708, Data: make([]byte, chunkData+1)},
	})
	b.PutInstall(Install{Group: 0x01020304, Replica: 0x1112131415161718, To: Position{0x31, 0x32}})
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	err = scan(l.kv, nil, nil, func(k, v []byte) error {
		if len(v) > 64 {
			_, err := fmt.Fprintf(&got, "%x = %x... %d bytes\n", k, v[:32], len(v))
			return err
		}
		_, err := fmt.Fprintf(&got, "%x = %x\n", k, v)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "log.golden")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Fatalf("bytes of log changed; got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestDescribeLogKey(t *testing.T) {
	for key, want := range map[string]string{
		"0300000003000000000000001100000002": "group 3 index 17 chunk 2",
		"020000000302":                       "group 3 hard state",
		"020000000301":                       "group 3 replica record",
		"020000000303":                       "group 3 truncation",
		"020000000304":                       "group 3 install",
		"016964":                             `node record "id"`,
		"0369":                               "",
	} {
		k, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		if got := describeLogKey(k); got != want {
			t.Errorf("key %s: %q, want %q", key, got, want)
		}
	}
}

// FuzzChunk feeds the decoder of entry chunks with what a damaged disk may hold.
func FuzzChunk(f *testing.F) {
	key := entryKey(3, 17, 0)
	value := make([]byte, chunkHeader+3)
	putChunkHeader(value, &chunk{kind: 1, size: 3, term: 5})
	sealRecord(key, value)
	f.Add(key, value)
	f.Add(key, value[:10])
	f.Add(key[:5], value)
	f.Fuzz(func(t *testing.T, key, value []byte) {
		c, err := parseChunk(key, value)
		if err == nil && (len(c.data) > chunkData || len(c.data) > int(c.size)) {
			t.Fatalf("chunk with %d of %d bytes", len(c.data), c.size)
		}
	})
}
