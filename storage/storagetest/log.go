package storagetest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/waystation/waystation/storage"
)

func runLog(t *testing.T, fresh func(t *testing.T) Disk) {
	for name, test := range map[string]func(t *testing.T, l *storage.Log){
		"Empty":          testLogEmpty,
		"AppendAndRead":  testLogAppend,
		"MaxBytes":       testLogMaxBytes,
		"ReadAt":         testLogReadAt,
		"Overwrite":      testLogOverwrite,
		"OverwriteBatch": testLogOverwriteInBatch,
		"StaleTail":      testLogStaleTail,
		"Truncate":       testLogTruncate,
		"TruncateAll":    testLogTruncateBeyond,
		"Gap":            testLogGap,
		"Records":        testLogRecords,
		"DropGroup":      testLogDropGroup,
		"ManyGroups":     testLogManyGroups,
		"Discard":        testLogDiscard,
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh(t)
			l := openLog(t, d)
			test(t, l)
			bounds := map[storage.GroupID][4]uint64{}
			for g := range storage.GroupID(4) {
				bounds[g] = boundsOf(l, g)
			}
			must(t, l.Close())
			d.Crash(0)
			l = openLog(t, d)
			for g, want := range bounds {
				if got := boundsOf(l, g); got != want {
					t.Errorf("group %d after a restart: first, last, bytes, truncated %v, want %v", g, got, want)
				}
			}
			must(t, l.Close())
		})
	}
}

func boundsOf(l *storage.Log, g storage.GroupID) [4]uint64 {
	first, last := l.Bounds(g)
	return [4]uint64{first, last, uint64(l.Bytes(g)), l.Truncated(g).Index}
}

func commit(t *testing.T, l *storage.Log, build func(b *storage.LogBatch)) {
	t.Helper()
	b := l.NewBatch()
	build(b)
	must(t, b.Commit(true))
}

// entries makes entries [from, to] of one term, each with size bytes.
func entries(from, to, term uint64, size int) []storage.Entry {
	var es []storage.Entry
	for i := from; i <= to; i++ {
		es = append(es, storage.Entry{Index: i, Term: term, Type: uint8(i % 3), Data: data(i<<8|term, size)})
	}
	return es
}

func wantEntries(t *testing.T, l *storage.Log, g storage.GroupID, want []storage.Entry) {
	t.Helper()
	first, last := want[0].Index, want[len(want)-1].Index
	got, err := l.Entries(g, first, last+1, 1<<40)
	must(t, err)
	if len(got) != len(want) {
		t.Fatalf("group %d: %d entries, want %d", g, len(got), len(want))
	}
	for i, w := range want {
		e := got[i]
		if e.Index != w.Index || e.Term != w.Term || e.Type != w.Type || !bytes.Equal(e.Data, w.Data) {
			t.Fatalf("group %d entry %d: got index %d term %d type %d, %d bytes; want term %d type %d, %d bytes",
				g, w.Index, e.Index, e.Term, e.Type, len(e.Data), w.Term, w.Type, len(w.Data))
		}
		if term, err := l.Term(g, w.Index); err != nil || term != w.Term {
			t.Fatalf("group %d term of %d: %d, %v, want %d", g, w.Index, term, err, w.Term)
		}
	}
}

func wantBounds(t *testing.T, l *storage.Log, g storage.GroupID, first, last uint64) {
	t.Helper()
	if f, la := l.Bounds(g); f != first || la != last {
		t.Fatalf("group %d bounds: %d to %d, want %d to %d", g, f, la, first, last)
	}
	if last < first && l.Bytes(g) != 0 {
		t.Fatalf("group %d is empty and takes %d bytes", g, l.Bytes(g))
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func testLogEmpty(t *testing.T, l *storage.Log) {
	wantBounds(t, l, 1, 1, 0)
	if h, err := l.HardState(1); err != nil || h != (storage.HardState{}) {
		t.Fatalf("hard state: %v, %v", h, err)
	}
	if term, err := l.Term(1, 0); err != nil || term != 0 {
		t.Fatalf("term of 0: %d, %v", term, err)
	}
	_, err := l.Term(1, 1)
	wantErr(t, "term of 1", err, storage.ErrUnavailable)
	_, err = l.Entries(1, 1, 2, 1)
	wantErr(t, "entries", err, storage.ErrUnavailable)
	_, err = l.Node([]byte("id"))
	wantErr(t, "node record", err, storage.ErrNotFound)
	if r, err := l.Replicas(); err != nil || len(r) != 0 {
		t.Fatalf("replicas: %v, %v", r, err)
	}
}

func testLogAppend(t *testing.T, l *storage.Log) {
	var all []storage.Entry
	for i, size := range []int{0, 1, 1000, 32640, 32704, 32705, 65408, 65409, 300_000, 8 << 20} {
		all = append(all, entries(uint64(i+1), uint64(i+1), uint64(1+i/3), size)...)
	}
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, all[:2]); b.Append(1, all[2:5]) })
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, all[5:]) })
	wantBounds(t, l, 1, 1, 10)
	wantEntries(t, l, 1, all)
	wantEntries(t, l, 1, all[3:6])
}

func testLogMaxBytes(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 10, 1, 40_000)) })
	for maxBytes, want := range map[uint64]int{0: 1, 39_999: 1, 40_000: 1, 79_999: 1, 80_000: 2, 1 << 40: 10} {
		got, err := l.Entries(1, 1, 11, maxBytes)
		must(t, err)
		if len(got) != want {
			t.Fatalf("at most %d bytes: %d entries, want %d", maxBytes, len(got), want)
		}
	}
}

func testLogReadAt(t *testing.T, l *storage.Log) {
	const size = 100_000
	es := entries(1, 2, 1, size)
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, es); b.Append(1, entries(3, 3, 1, 0)) })
	for _, r := range [][2]int{{0, 0}, {0, 1}, {0, size}, {size, 0}, {size - 1, 1}, {32703, 2}, {32704, 1}, {32704, 32704}, {1000, 70_000}} {
		got, err := l.ReadAt(1, 2, r[0], r[1], []byte("before"))
		must(t, err)
		if want := append([]byte("before"), es[1].Data[r[0]:r[0]+r[1]]...); !bytes.Equal(got, want) {
			t.Fatalf("read %d bytes at %d: wrong content", r[1], r[0])
		}
	}
	for _, r := range [][2]int{{0, size + 1}, {size, 1}, {size + 1, 0}, {size + 100_000, 1}, {-1, 2}, {1, -1}, {1 << 62, 1 << 62}} {
		got, err := l.ReadAt(1, 1, r[0], r[1], []byte("before"))
		wantErr(t, "read outside", err, storage.ErrRange)
		if string(got) != "before" {
			t.Fatalf("a failed read changed dst to %d bytes", len(got))
		}
	}
	if got, err := l.ReadAt(1, 3, 0, 0, nil); err != nil || len(got) != 0 {
		t.Fatalf("read of an empty entry: %d bytes, %v", len(got), err)
	}
	_, err := l.ReadAt(1, 4, 0, 0, nil)
	wantErr(t, "read behind the last", err, storage.ErrUnavailable)
}

func testLogOverwrite(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 9, 1, 100_000)) })
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(4, 5, 2, 10)) })
	wantBounds(t, l, 1, 1, 5)
	wantEntries(t, l, 1, append(entries(1, 3, 1, 100_000), entries(4, 5, 2, 10)...))
	before := l.Bytes(1)
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(6, 6, 2, 10)); b.DeleteFrom(1, 6, 6) })
	if l.Bytes(1) != before {
		t.Fatalf("an entry that came and went takes %d bytes", l.Bytes(1)-before)
	}
	_, err := l.Entries(1, 6, 7, 1)
	wantErr(t, "the deleted one", err, storage.ErrUnavailable)
}

// testLogOverwriteInBatch is raft changing its mind twice before anything was written.
func testLogOverwriteInBatch(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 3, 1, 10)) })
	commit(t, l, func(b *storage.LogBatch) {
		b.Append(1, entries(4, 9, 1, 40_000))
		b.Append(1, entries(5, 7, 2, 70_000))
		b.Append(1, entries(6, 6, 3, 20))
	})
	want := append(entries(1, 3, 1, 10), entries(4, 4, 1, 40_000)...)
	want = append(append(want, entries(5, 5, 2, 70_000)...), entries(6, 6, 3, 20)...)
	wantBounds(t, l, 1, 1, 6)
	wantEntries(t, l, 1, want)
	commit(t, l, func(b *storage.LogBatch) {
		b.Append(1, entries(7, 8, 3, 10))
		b.Append(1, entries(2, 2, 4, 10))
	})
	wantBounds(t, l, 1, 1, 2)
	wantEntries(t, l, 1, append(entries(1, 1, 1, 10), entries(2, 2, 4, 10)...))
}

func testLogStaleTail(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 9, 1, 10)) })
	commit(t, l, func(b *storage.LogBatch) {
		b.DeleteFrom(1, 4, 9)
		b.Append(1, entries(4, 5, 2, 10))
		b.DeleteFrom(1, 6, 9) // as a caller does that computes the tail behind what it appends
	})
	wantBounds(t, l, 1, 1, 5)
	commit(t, l, func(b *storage.LogBatch) { b.DeleteFrom(1, 3, 3) })
	wantBounds(t, l, 1, 1, 2)
	wantEntries(t, l, 1, entries(1, 2, 1, 10))
	commit(t, l, func(b *storage.LogBatch) { b.Truncate(1, storage.Position{Index: 1, Term: 1}) })
	b := l.NewBatch()
	b.DeleteFrom(1, 1, 2)
	wantErr(t, "a tail within what is truncated", b.Commit(true), storage.ErrCompacted)
	wantBounds(t, l, 1, 2, 2)
}

func testLogTruncate(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) {
		b.Append(1, entries(1, 9, 1, 50_000))
		b.Append(2, entries(1, 9, 1, 50_000))
	})
	each := l.Bytes(1) / 9
	commit(t, l, func(b *storage.LogBatch) { b.Truncate(1, storage.Position{Index: 4, Term: 1}) })
	wantBounds(t, l, 1, 5, 9)
	if l.Bytes(1) != 5*each {
		t.Fatalf("5 of 9 entries take %d bytes, want %d", l.Bytes(1), 5*each)
	}
	wantEntries(t, l, 1, entries(5, 9, 1, 50_000))
	wantEntries(t, l, 2, entries(1, 9, 1, 50_000))
	if term, err := l.Term(1, 4); err != nil || term != 1 {
		t.Fatalf("term of the truncated one: %d, %v", term, err)
	}
	_, err := l.Term(1, 3)
	wantErr(t, "term", err, storage.ErrCompacted)
	_, err = l.Entries(1, 4, 7, 1)
	wantErr(t, "entries", err, storage.ErrCompacted)
	_, err = l.Entries(1, 3, 99, 1)
	wantErr(t, "entries beyond both ends", err, storage.ErrCompacted)
	_, err = l.ReadAt(1, 4, 0, 1, nil)
	wantErr(t, "read", err, storage.ErrCompacted)
	commit(t, l, func(b *storage.LogBatch) { b.Truncate(1, storage.Position{Index: 3, Term: 1}) })
	wantBounds(t, l, 1, 5, 9)
	commit(t, l, func(b *storage.LogBatch) { b.Truncate(1, storage.Position{Index: 9, Term: 1}) })
	wantBounds(t, l, 1, 10, 9)
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(10, 11, 2, 10)) })
	wantEntries(t, l, 1, entries(10, 11, 2, 10))
}

// testLogTruncateBeyond is what installing a snapshot does.
func testLogTruncateBeyond(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 9, 1, 10)) })
	commit(t, l, func(b *storage.LogBatch) {
		b.Append(1, entries(10, 12, 1, 10))
		b.Truncate(1, storage.Position{Index: 100, Term: 7})
		b.SetHardState(1, storage.HardState{Term: 7, Commit: 100})
	})
	wantBounds(t, l, 1, 101, 100)
	if term, err := l.Term(1, 100); err != nil || term != 7 {
		t.Fatalf("term: %d, %v", term, err)
	}
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(101, 103, 7, 10)) })
	wantEntries(t, l, 1, entries(101, 103, 7, 10))
}

func testLogGap(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 3, 1, 10)) })
	for _, es := range [][]storage.Entry{entries(5, 5, 1, 10), append(entries(4, 4, 1, 10), entries(6, 6, 1, 10)...)} {
		b := l.NewBatch()
		b.SetHardState(1, storage.HardState{Term: 99})
		b.Append(1, es)
		b.Append(1, entries(4, 4, 1, 10))
		wantErr(t, "append", b.Commit(true), storage.ErrGap)
	}
	wantBounds(t, l, 1, 1, 3)
	if h, err := l.HardState(1); err != nil || h.Term != 0 {
		t.Fatalf("a refused batch was written in part: %v, %v", h, err)
	}
}

func testLogRecords(t *testing.T, l *storage.Log) {
	metas := []storage.ReplicaMeta{
		{Group: 0, Replica: 1, State: storage.ReplicaLive, Truncated: storage.Position{Index: 5, Term: 5}},
		{Group: 3, Replica: 1 << 60, State: storage.ReplicaTombstone},
	}
	commit(t, l, func(b *storage.LogBatch) {
		b.PutReplica(metas[1])
		b.PutReplica(metas[0])
		b.SetHardState(0, storage.HardState{Term: 1, Vote: 2, Commit: 3})
		b.PutNode([]byte("id"), []byte("value"))
		b.PutNode([]byte("empty"), nil)
	})
	got, err := l.Replicas()
	must(t, err)
	if len(got) != 2 || got[0] != metas[0] || got[1] != metas[1] {
		t.Fatalf("replicas: %+v, want %+v", got, metas)
	}
	wantBounds(t, l, 0, 6, 5)
	if h, err := l.HardState(0); err != nil || h != (storage.HardState{Term: 1, Vote: 2, Commit: 3}) {
		t.Fatalf("hard state: %+v, %v", h, err)
	}
	if v, err := l.Node([]byte("id")); err != nil || string(v) != "value" {
		t.Fatalf("node record: %q, %v", v, err)
	}
	if v, err := l.Node([]byte("empty")); err != nil || len(v) != 0 {
		t.Fatalf("empty node record: %q, %v", v, err)
	}
}

func testLogDropGroup(t *testing.T, l *storage.Log) {
	commit(t, l, func(b *storage.LogBatch) {
		for g := range storage.GroupID(3) {
			b.PutReplica(storage.ReplicaMeta{Group: g, Replica: 1, State: storage.ReplicaLive, Truncated: storage.Position{Index: 5, Term: 5}})
			b.Append(g, entries(6, 9, 5, 10))
			b.SetHardState(g, storage.HardState{Term: 5})
		}
	})
	commit(t, l, func(b *storage.LogBatch) {
		b.PutReplica(storage.ReplicaMeta{Group: 1, Replica: 1, State: storage.ReplicaTombstone})
		b.DropGroup(1)
	})
	wantBounds(t, l, 1, 1, 0)
	wantEntries(t, l, 0, entries(6, 9, 5, 10))
	wantEntries(t, l, 2, entries(6, 9, 5, 10))
	if h, err := l.HardState(1); err != nil || h != (storage.HardState{}) {
		t.Fatalf("hard state: %+v, %v", h, err)
	}
	all, err := l.Replicas()
	must(t, err)
	if len(all) != 3 || all[1].State != storage.ReplicaTombstone {
		t.Fatalf("replicas: %+v", all)
	}
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 2, 1, 10)) })
	wantEntries(t, l, 1, entries(1, 2, 1, 10))
}

func testLogManyGroups(t *testing.T, l *storage.Log) {
	const groups = 40
	for round := range uint64(5) {
		commit(t, l, func(b *storage.LogBatch) {
			for g := range storage.GroupID(groups) {
				b.Append(g, entries(round*3+1, round*3+3, uint64(g)+1, int(g)*1000))
			}
		})
	}
	for g := range storage.GroupID(groups) {
		wantEntries(t, l, g, entries(1, 15, uint64(g)+1, int(g)*1000))
	}
}

func testLogDiscard(t *testing.T, l *storage.Log) {
	b := l.NewBatch()
	b.Append(1, entries(1, 3, 1, 10))
	if b.Len() < 30 {
		t.Fatalf("a batch of 30 bytes of data has a length of %d", b.Len())
	}
	b.Discard()
	wantBounds(t, l, 1, 1, 0)
	commit(t, l, func(b *storage.LogBatch) { b.Append(1, entries(1, 1, 1, 10)) })
	wantEntries(t, l, 1, entries(1, 1, 1, 10))
}
