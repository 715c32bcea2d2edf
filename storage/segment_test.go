package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func commitLog(t *testing.T, l *Log, build func(b *LogBatch)) {
	t.Helper()
	b := l.NewBatch()
	build(b)
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
}

// TestGolden holds the bytes of `log` to testdata/log.golden. What is in there is on
// somebody's disk: a difference is a new format version, and never a new golden file alone.
func TestGolden(t *testing.T) {
	c := DefaultLogConfig("log")
	fs := vfs.NewMem()
	c.FS, c.Logger = fs, slog.New(slog.DiscardHandler)
	c.nonce = func() uint64 { return 0xa1a2a3a4a5a6a7a8 }
	l, err := OpenLog(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	commitLog(t, l, func(b *LogBatch) {
		b.PutNode([]byte("id"), []byte{0xde, 0xad, 0xbe, 0xef})
		b.PutReplica(ReplicaMeta{Group: 0x01020304, Replica: 0x1112131415161718, State: ReplicaLive, Truncated: Position{5, 4}})
		b.SetHardState(0x01020304, HardState{Term: 0x21, Vote: 0x22, Commit: 0x23})
		b.Append(0x01020304, []Entry{
			{Index: 6, Term: 7, Type: 1},
			{Index: 7, Term: 0x0102030405060708, Type: 2, Data: []byte("payload")},
			{Index: 8, Term: 0x0102030405060708, Data: make([]byte, chunkData+1)},
		})
	})
	commitLog(t, l, func(b *LogBatch) {
		b.PutInstall(Install{Group: 0x01020304, Replica: 0x1112131415161718, To: Position{0x31, 0x32}})
		b.DeleteFrom(0x01020304, 8, 8)
		b.DropInstall(0x01020304)
	})
	data, err := fs.UnsafeGetFileDataBuffer("log/0000000001.seg")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "log.golden")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := hexDump(data); got != string(want) {
		t.Fatalf("bytes of log changed; got\n%s\nwant\n%s", got, want)
	}
}

// hexDump leaves out lines of zeros, and the zeros at the end, with which a block is filled up.
func hexDump(data []byte) string {
	var s strings.Builder
	data = bytes.TrimRight(data, "\x00")
	for at := 0; at < len(data); at += 32 {
		if line := data[at:min(at+32, len(data))]; !bytes.Equal(line, make([]byte, len(line))) {
			fmt.Fprintf(&s, "%06x %x\n", at, line)
		}
	}
	return s.String()
}

func TestDescribeLogKey(t *testing.T) {
	for want, key := range map[string][]byte{
		"group 3 index 17 chunk 2": entryKey(3, 17, 2),
		"group 3 hard state":       groupKey(3, fieldHardState),
		"group 3 replica record":   groupKey(3, fieldReplica),
		"group 3 truncation":       groupKey(3, fieldTruncated),
		"group 3 install":          groupKey(3, fieldInstall),
		"group 3 damage":           groupKey(3, fieldDamage),
		`node record "id"`:         nodeKey([]byte("id")),
		"":                         {prefixEntry, 1},
	} {
		if got := describeLogKey(key); got != want {
			t.Errorf("key %x: %q, want %q", key, got, want)
		}
	}
}

// FuzzChunk feeds the decoder of entry chunks with what a damaged disk may hold.
func FuzzChunk(f *testing.F) {
	key := entryKey(3, 17, 0)
	value := make([]byte, chunkHeader+3)
	putChunkHeader(value, &chunk{kind: 1, size: 3, term: 5})
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

// FuzzBlock feeds the decoder of blocks with anything, its checksum made to fit: what it takes must be
// what would be written.
func FuzzBlock(f *testing.F) {
	const nonce = 77
	some := frame{seq: 9, synced: 8, off: 5000, body: uint32(storedBytes(3)), first: 1, ops: []frameOp{
		{kind: opEntry, group: 3, index: 17, size: 3},
		{kind: opLost, group: 3, index: 16, size: 70_000},
		{kind: opSet, key: groupKey(3, fieldHardState), value: make([]byte, hardStateSize)},
		{kind: opDelete, key: groupKey(3, fieldInstall)},
		{kind: opDeleteRange, key: entryKey(3, 0, 0), value: entryKey(3, 4, 0)},
	}}
	f.Add(some.appendBlock(nil, nonce))
	f.Add((&frame{}).appendBlock(nil, nonce))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < blockHead {
			return
		}
		b = bytes.Clone(b)
		binary.BigEndian.PutUint64(b, nonce)
		binary.BigEndian.PutUint32(b[12:], uint32(len(b)))
		binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
		got, err := parseBlock(b, nonce)
		if err != nil {
			return
		}
		if again := got.appendBlock(nil, nonce); len(again) > len(b) {
			t.Fatalf("block of %d bytes is written as %d", len(b), len(again))
		}
		for _, o := range got.ops {
			if o.entry() && uint64(o.off)+o.stored() > uint64(got.body) {
				t.Fatalf("an entry at %d is outside of %d bytes", o.off, got.body)
			}
		}
	})
}

func TestFlippedBit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 11))
	b := make([]byte, chunkStride)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	want := crc32.Checksum(b, castagnoli)
	for range 40 {
		bit := r.IntN(8 * len(b))
		b[bit/8] ^= 1 << (bit % 8)
		if !flippedBit(want^crc32.Checksum(b, castagnoli), len(b)) {
			t.Errorf("bit %d is not found", bit)
		}
		b[0] ^= 1 << (bit % 7)
		if bit >= 8 && flippedBit(want^crc32.Checksum(b, castagnoli), len(b)) {
			t.Errorf("bits %d and %d are taken for one", bit%7, bit)
		}
		b[0] ^= 1 << (bit % 7)
		b[bit/8] ^= 1 << (bit % 8)
		if !flippedBit(1<<(bit%32), len(b)) {
			t.Error("a bit of the checksum is not found")
		}
	}
}

// pinning is a log in which one group keeps few entries for long, and another one passes by.
type pinning struct {
	t    *testing.T
	fs   *vfs.MemFS
	log  *Log
	told []Damage
	fast uint64
	slow uint64
}

func (p *pinning) open() {
	p.t.Helper()
	c := damageConfig(p.fs)
	FixNonces(&c, 5)
	c.Damaged = func(d Damage) { p.told = append(p.told, d) }
	l, err := OpenLog(c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.log = l
}

func (p *pinning) close() {
	p.t.Helper()
	if err := p.log.Close(); err != nil {
		p.t.Fatal(err)
	}
}

func pinned(index uint64) []byte { return bytes.Repeat([]byte{byte(index), 7}, int(index%9)*600) }

// round appends to both groups, and truncates the fast one.
func (p *pinning) round(slow bool) {
	p.t.Helper()
	commitLog(p.t, p.log, func(b *LogBatch) {
		p.fast++
		b.Append(2, []Entry{{Index: p.fast, Term: 1, Data: make([]byte, 20_000)}})
		if slow {
			p.slow++
			b.Append(1, []Entry{{Index: p.slow, Term: 3, Data: pinned(p.slow)}})
		}
		if p.fast > 4 {
			b.Truncate(2, Position{Index: p.fast - 3, Term: 1})
		}
	})
}

func (p *pinning) check() {
	p.t.Helper()
	es, err := p.log.Entries(1, 1, p.slow+1, 1<<30)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, e := range es {
		if e.Index != uint64(i+1) || e.Term != 3 || !bytes.Equal(e.Data, pinned(e.Index)) {
			p.t.Fatalf("entry %d differs", i+1)
		}
	}
	if first, last := p.log.Bounds(2); first != p.fast-2 || last != p.fast {
		p.t.Fatalf("the fast group has %d to %d, want %d to %d", first, last, p.fast-2, p.fast)
	}
	if v, err := p.log.Node([]byte("id")); err != nil || string(v) != "who" {
		p.t.Fatalf("node record: %q, %v", v, err)
	}
	live := p.log.Bytes(1) + p.log.Bytes(2)
	if got, most := p.log.DiskBytes(), 2*live+16*(64<<10); got > most {
		p.t.Fatalf("%d bytes on disk for %d that are alive", got, live)
	}
}

// TestSlowGroupHoldsNothingBack keeps a few entries of one group while another group fills and leaves
// a hundred segments: the few are carried, and are there after each loss of power.
func TestSlowGroupHoldsNothingBack(t *testing.T) {
	p := &pinning{t: t, fs: vfs.NewCrashableMem()}
	r := rand.New(rand.NewPCG(3, 12))
	p.open()
	commitLog(t, p.log, func(b *LogBatch) { b.PutNode([]byte("id"), []byte("who")) })
	for range 8 {
		for i := range 50 {
			p.round(i%6 == 0)
		}
		p.check()
		left := p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		p.close()
		p.fs = left
		p.open()
		p.check()
	}
	if p.slow < 60 || p.fast < 390 {
		t.Fatalf("only %d and %d entries", p.slow, p.fast)
	}
	p.close()
}

// TestDamageIsCarried damages an entry that is later to be carried: its group is told of, by name, and
// stays damaged until it is dropped, and nothing is held back on disk for it.
func TestDamageIsCarried(t *testing.T) {
	p := &pinning{t: t, fs: vfs.NewMem()}
	p.open()
	commitLog(t, p.log, func(b *LogBatch) { b.PutNode([]byte("id"), []byte("who")) })
	for range 9 {
		p.round(true)
	}
	p.close()
	damageChunk(t, p.fs, entryKey(1, 5, 0))
	p.open()
	for range 60 {
		p.round(false)
	}
	if len(p.told) != 1 || p.told[0].Group != 1 {
		t.Fatalf("told of %v", p.told)
	}
	named(t, p.told[0].Err, "group 1 index 5")
	for range 2 {
		_, err := p.log.Entries(1, 5, 6, 0)
		named(t, err, "group 1 index 5")
		if es, err := p.log.Entries(1, 4, 5, 0); err != nil || !bytes.Equal(es[0].Data, pinned(4)) {
			t.Fatalf("another entry of the group: %v", err)
		}
		if err := p.log.Damaged(2); err != nil {
			t.Fatal(err)
		}
		p.close()
		p.open()
		named(t, p.log.Damaged(1), "group 1 index 5")
		for range 60 {
			p.round(false)
		}
	}
	if got := p.log.DiskBytes(); got > 24*(64<<10) {
		t.Fatalf("%d bytes are held on disk", got)
	}
	commitLog(t, p.log, func(b *LogBatch) { b.DropGroup(1) })
	if err := p.log.Damaged(1); err != nil {
		t.Fatal(err)
	}
	p.close()
	p.open()
	if err := p.log.Damaged(1); err != nil {
		t.Fatal(err)
	}
	p.close()
}

// damageChunk flips a bit in the data of a chunk, wherever it lies.
func damageChunk(t *testing.T, fs *vfs.MemFS, key []byte) {
	t.Helper()
	files, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := fs.UnsafeGetFileDataBuffer("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(data, key); at >= 0 {
			data[at+100] ^= 4
			return
		}
	}
	t.Fatalf("no chunk with key %x", key)
}

// frameOf returns where a frame's two blocks are in the first segment.
func frameOf(t *testing.T, fs *vfs.MemFS, seq uint64) (front, back int64, path string) {
	t.Helper()
	path = "log/0000000001.seg"
	data, err := fs.UnsafeGetFileDataBuffer(path)
	if err != nil {
		t.Fatal(err)
	}
	h, ok := parseSegmentHeader(data)
	if !ok {
		t.Fatal("no header")
	}
	v := segmentView{data: data, nonce: h.nonce}
	if !v.blocks(segmentStart, func(pos int64, f *frame) bool {
		front, back = int64(f.off), f.backAt()
		return f.seq != seq
	}) {
		t.Fatalf("no frame %d", seq)
	}
	return front, back, path
}

// TestLostFrame damages both blocks of a frame that was synced, in the midst of others, at the end, and
// where it is sealed. Nobody knows what it did: every group is damaged, also one that it may have
// created, until each is dropped.
func TestLostFrame(t *testing.T) {
	for name, c := range map[string]struct {
		sealed bool
		seq    uint64
	}{"midst": {false, 6}, "last": {false, damageEntries}, "sealed": {true, 6}, "sealed last": {true, damageEntries}} {
		t.Run(name, func(t *testing.T) {
			fs := writtenLog(t, c.sealed, killed())
			front, back, path := frameOf(t, fs, c.seq)
			flip(t, fs, path, int(8*(front+20)))
			flip(t, fs, path, int(8*(back+20)))
			for range 2 { // what the first start finds, the next one does too
				h := readAll(t, fs)
				if h.refused || !h.groups[3] || !h.groups[4] {
					t.Fatalf("%+v", h)
				}
			}
			l, err := OpenLog(damageConfig(fs))
			if err != nil {
				t.Fatal(err)
			}
			named(t, l.Damaged(99), "lost")
			commitLog(t, l, func(b *LogBatch) {
				b.PutReplica(ReplicaMeta{Group: 3, Replica: 7, State: ReplicaTombstone})
				b.DropGroup(3)
				b.PutReplica(ReplicaMeta{Group: 99, Replica: 9, State: ReplicaLive})
			})
			for range 2 {
				if err := l.Damaged(3); err != nil {
					t.Fatal(err)
				}
				if err := l.Damaged(99); err != nil {
					t.Fatal(err)
				}
				named(t, l.Damaged(4), "group 4")
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if l, err = OpenLog(damageConfig(fs)); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSegmentMissing removes the oldest segment that is needed: that is nothing that a start gets over.
func TestSegmentMissing(t *testing.T) {
	fs := writtenLog(t, true, killed())
	if err := fs.Remove("log/0000000001.seg"); err != nil {
		t.Fatal(err)
	}
	if h := readAll(t, fs); !h.refused {
		t.Fatalf("%+v", h)
	}
}

// TestWitnessTorn is a witness that itself was damaged or torn: it says nothing then.
func TestWitnessTorn(t *testing.T) {
	base := writtenLog(t, false, killed())
	for bit := range 8 * witnessSize {
		fs := base.CrashClone(killed())
		flip(t, fs, "log/"+witnessFile, bit)
		if h := readAll(t, fs); !h.whole() {
			t.Fatalf("bit %d of the witness: %+v", bit, h)
		}
	}
}
