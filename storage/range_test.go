package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// rangeStream is a small stream of many chunks.
func rangeStream(t testing.TB, records int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewRangeWriter(&b)
	for i := range records {
		if err := w.Add(fmt.Appendf(nil, "key %06d", i), bytes.Repeat([]byte{byte(i)}, i%7*10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readStream(r io.Reader) (Amount, error) {
	d := NewRangeReader(r)
	for {
		if _, _, err := d.Next(); err == io.EOF { //nolint:errorlint // bare
			return d.Amount(), nil
		} else if err != nil {
			return d.Amount(), err
		}
	}
}

// TestGoldenRange holds the bytes of a range stream and of a stage's seal: they are in backups
// and on disks.
func TestGoldenRange(t *testing.T) {
	var b bytes.Buffer
	w := NewRangeWriter(&b)
	for _, r := range [][2]string{{"a", "one"}, {"b", ""}, {"c", strings.Repeat("x", 200)}} {
		if err := w.Add([]byte(r[0]), []byte(r[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	seal := (&sealedStage{sizes: []uint64{300, 7}, keys: 1000, first: []byte("first"), last: []byte("last")}).encode()
	got := fmt.Sprintf("stream %x\nseal %x\nempty seal %x\n", b.Bytes(), seal, (&sealedStage{}).encode())
	want, err := os.ReadFile(filepath.Join("testdata", "range.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("bytes changed; got\n%s\nwant\n%s", got, want)
	}
}

func TestRangeStream(t *testing.T) {
	for _, n := range []int{0, 1, 100} {
		stream := rangeStream(t, n)
		behind := bytes.NewReader(append(bytes.Clone(stream), "behind"...))
		got, err := readStream(iotest.OneByteReader(behind))
		if err != nil || got.Keys != uint64(n) {
			t.Fatalf("read %+v of %d records: %v", got, n, err)
		}
		if rest, _ := io.ReadAll(behind); string(rest) != "behind" {
			t.Fatalf("the reader left %q of what is behind the stream", rest)
		}
	}
}

// TestRangeStreamTruncated cuts a stream off at every byte that is near a chunk's edge, and at
// some between.
func TestRangeStreamTruncated(t *testing.T) {
	stream := rangeStream(t, 20)
	for cut := 0; cut < len(stream); cut++ {
		if cut > 100 && cut < len(stream)-100 && cut%997 != 0 {
			continue
		}
		if _, err := readStream(bytes.NewReader(stream[:cut])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("a stream cut off at byte %d of %d: %v", cut, len(stream), err)
		}
	}
}

func TestRangeStreamDamaged(t *testing.T) {
	stream := rangeStream(t, 40)
	for at := 0; at < len(stream); at++ {
		if at > 60 && at < len(stream)-60 && at%997 != 0 {
			continue
		}
		hurt := bytes.Clone(stream)
		hurt[at] ^= 1 << (at % 8)
		_, err := readStream(bytes.NewReader(hurt))
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("a bit flipped in byte %d: %v", at, err)
		}
	}
}

// TestRangeStreamChunks takes chunks away, doubles them and exchanges them: each is whole.
func TestRangeStreamChunks(t *testing.T) {
	stream := rangeStream(t, 40)
	var chunks [][]byte
	for rest := stream[rangeHeaderSize:]; len(rest) > 0; {
		n := rangeFrameSize + int(rest[0])<<24 + int(rest[1])<<16 + int(rest[2])<<8 + int(rest[3])
		chunks = append(chunks, rest[:n])
		rest = rest[n:]
	}
	if len(chunks) < 5 {
		t.Fatalf("only %d chunks", len(chunks))
	}
	build := func(order ...int) io.Reader {
		b := bytes.Clone(stream[:rangeHeaderSize])
		for _, n := range order {
			b = append(b, chunks[n]...)
		}
		return bytes.NewReader(b)
	}
	end := len(chunks) - 1
	for name, r := range map[string]io.Reader{
		"lost": build(0, 2, 3, end), "doubled": build(0, 0, 1, end), "exchanged": build(1, 0, end), "end too early": build(0, end),
	} {
		if _, err := readStream(r); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a chunk %s: %v", name, err)
		}
	}
}

func TestRangeWriterRefuses(t *testing.T) {
	w := NewRangeWriter(io.Discard)
	if err := w.Add([]byte("b"), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Add([]byte("b"), nil); !errors.Is(err, ErrOrder) {
		t.Fatalf("the same key again: %v", err)
	}
	if err := w.Close(); !errors.Is(err, ErrOrder) {
		t.Fatalf("the end of a broken stream: %v", err)
	}
	full := NewRangeWriter(fullDisk{})
	if err := full.Close(); !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("a stream that cannot be written: %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestExportFails shows that damage in the source and a failing receiver both end an export.
func TestExportFails(t *testing.T) {
	if _, err := ExportRange(io.Discard, failedReader{ErrClosed}, nil, nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("export of a closed state: %v", err)
	}
	s := NewState(smallKV(t), slog.New(slog.DiscardHandler))
	defer func() { _ = s.Close() }()
	b := s.NewBatch()
	b.Set([]byte("a"), make([]byte, 2*rangeChunk))
	b.Set([]byte("b"), make([]byte, 2*rangeChunk))
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := ExportRange(fullDisk{}, s, nil, nil); !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("export to a receiver that fails: %v", err)
	}
}

func smallKV(t *testing.T) *pebbleKV {
	t.Helper()
	c := DefaultStateConfig("state")
	c.FS, c.Logger = vfs.NewMem(), slog.New(slog.DiscardHandler)
	c.CacheBytes, c.MemTableBytes = 1<<20, 4<<20
	s, err := OpenState(c)
	if err != nil {
		t.Fatal(err)
	}
	return s.kv.(*pebbleKV)
}

// FuzzRangeReader feeds the reader with what a peer or a damaged backup may hold.
func FuzzRangeReader(f *testing.F) {
	var b bytes.Buffer
	w := NewRangeWriter(&b)
	if err := errors.Join(w.Add([]byte("a"), []byte("one")), w.Add([]byte("b"), nil), w.Close()); err != nil {
		f.Fatal(err)
	}
	whole := b.Bytes()
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(rangeMagic))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if amount, err := readStream(bytes.NewReader(stream)); amount.Bytes > uint64(len(stream)) {
			t.Fatalf("%+v out of %d bytes: %v", amount, len(stream), err)
		}
	})
}

// FuzzSeal feeds the decoder of seals with what a damaged disk may hold.
func FuzzSeal(f *testing.F) {
	f.Add((&sealedStage{sizes: []uint64{300, 7}, keys: 1000, first: []byte("first"), last: []byte("last")}).encode())
	f.Add([]byte{0, 0, 0, 0, 1, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSeal(b)
		if err != nil {
			return
		}
		again, err := parseSeal(s.encode())
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("seal %+v is read back as %+v, %v", s, again, err)
		}
	})
}
