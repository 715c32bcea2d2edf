package repository

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files: only when the format's version rises")

type golden struct {
	name  string
	bytes []byte
}

// goldenRecords is one of everything that is durable: entries, keys and values.
func goldenRecords() []golden {
	m := &Machine{part: 0x0102, logTimeMs: 1_700_000_000_123, stats: stats{[Ranks]uint64{1, 2, 300}, 4000, 9}}
	m.buckets = []bucket{{id: 8, startMs: 1_700_000_000_000, endMs: 1_700_000_600_000, untilMs: 1_700_003_600_000}}
	x := run{index: 77, acceptedMs: 1_700_000_000_123, base: 40, end: 2100, items: []runItem{
		{seq: 5, offset: 40, length: 1000, crc: 0xdeadbeef, flags: itemPosition},
		{seq: 7, offset: 1100, length: 1000, crc: 1, flags: itemID | itemTTL | itemDelay, expireMs: 1_700_000_060_123, readyMs: 1_700_000_001_123},
	}}
	l := lane{
		cursors: [Ranks]Seq{1, 2, 3}, token: 500, rank: RankNormal, last: 9, leaseMs: 30000, session: "ci-7",
		ended: endedLeases{{token: 400, kind: SettleRetry, through: 1, failed: 2}, {token: 300, through: 9}, {token: 299, kind: SettleExpire, through: 8}},
		heads: [Ranks]head{RankNormal: {seq: 3, attempts: 2, notBeforeMs: 1_700_000_002_000, failures: failures{{AtMs: 1_700_000_001_000, Silent: true, Error: "lease expired"}, {AtMs: 1_700_000_001_500, Error: "exit 1"}}}, RankLow: {seq: 9, attempts: 1}},
		index: [Ranks]int64{RankHigh: 1_700_000_009_000, RankLow: 1_700_000_002_000},
	}
	rare := lane{cursors: [Ranks]Seq{4, 5, 6}, again: [Ranks]uint64{RankLow: 2}, blocked: 7, blockedIn: RankLow, parkTo: 300}
	redriven := again{of: 5, acceptedMs: 1_700_000_000_123, deadlineMs: 1_700_600_000_123, ref: Ref{77, 40, 1100, 1000, 9}}
	r := repo{head: 300, bytes: 70000, aged: 1_700_000_000_000}
	r.ranks[RankNormal] = rankState{count: 2, first: 5, last: 300, delayed: 1}
	p := producer{epoch: 2, last: 130, seenMs: 1_700_000_000_000, runs: []positionRun{{100, 200, 20}, {120, 230, 11}}}
	gc := DefaultGroupConfig("ci")
	gc.ID, gc.ResultTTLMs = 3, 2*hour
	gc.SetKindTTL("review", 5*minute)
	left := Left{Packed: true, Kind: []byte("review"), ID: []byte("id-1"), ContentCRC: 9, Data: []byte("zstd")}
	g := group{cfg: gc, startIndex: 12, backfill: []byte("acme/api\x00\x01"), waiting: [Ranks]uint64{0, 7, 1}, dead: 2}
	deleted := g
	deleted.removal = removal{since: 90, step: removeDead, after: []byte("acme/api\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05")}
	d := deadRecord{reason: ReasonAttempts, rank: RankLow, attempts: 5, atMs: 1_700_000_000_500, accepted: 1_700_000_000_000, ref: Ref{77, 40, 1100, 1000, 9}, failures: failures{{AtMs: 1_700_000_000_500, Error: "exit 1"}}}
	cfg := DefaultConfig()
	clone := func(b []byte) []byte { return append([]byte(nil), b...) }
	return []golden{
		{"value/repository", r.append(nil)},
		{"value/producer", p.append(nil)},
		{"value/run", x.append(nil)},
		{"value/lane", l.append(nil)},
		{"value/lane-rare", rare.append(nil)},
		{"value/redriven", redriven.append(nil)},
		{"value/group", g.append(nil)},
		{"value/group-deleted", deleted.append(nil)},
		{"value/dead", d.append(nil)},
		{"value/left", left.Append(nil)},
		{"value/lease", appendLease(nil, &l)},
		{"value/config", cfg.Append(nil)},
		{"value/stats", m.appendStats(nil)},
		{"key/applied", clone(m.keyMeta(metaApplied))},
		{"key/conf", clone(m.keyMeta(metaConf))},
		{"key/group", clone(m.keyGroup(3))},
		{"key/repository", clone(m.keyRepo("a\x00b"))},
		{"key/producer", clone(m.keyProducer("acme/api", "p"))},
		{"key/lane", clone(m.keyLane(3, "acme/api"))},
		{"key/run", clone(m.keyRun("acme/api", RankNormal, 7))},
		{"key/id", clone(m.keyID(8, "acme/api", []byte("id-1")))},
		{"key/runnable", clone(m.keyRunnable(3, RankLow, 1_700_000_002_000, "acme/api"))},
		{"key/lease", clone(m.keyLease(3, "acme/api"))},
		{"key/dead", clone(m.keyDead(3, "acme/api", 7))},
		{"key/deadline", clone(m.keyDeadline(1_700_000_060_123, "acme/api", RankNormal, 7))},
		{"key/age", clone(m.keyAge(1_700_000_000_000, "acme/api"))},
		{"key/dead-age", clone(m.keyDeadAge(1_700_000_000_500, 3, "acme/api", 7))},
		{"key/idle", clone(m.keyIdle(1_700_000_000_000, "acme/api", "p"))},
		{"key/manifest", clone(m.keyManifest(77))},
		{"key/spill", clone(m.keySpill(77, 40, spillSingle))},
		{"key/result", clone(m.keyResult(8, 3, "acme/api", 7))},
		{"key/payload", clone(m.keyPayload(&d.ref, payloadAgain, 3, "acme/api", 7))},
		{"key/redriven", clone(m.keyAgain(3, "acme/api", RankLow, 9))},
		{"key/parking", clone(m.keyParking(3, "acme/api"))},
		{"key/fence", clone(m.keyFence("p"))},
		{"entry/publish", entry(1_700_000_000_123, publishOf("acme/api", packet("x"),
			&PublishItem{Raw: []byte("y"), Tail: []byte("t"), RawCRC: 7, ContentCRC: 8, Rank: RankHigh, Producer: []byte("p"), Epoch: 1, Sequence: 300, ID: []byte("i"), TTLMs: 5000, DeliverAfterMs: 200},
			&PublishItem{Raw: []byte("z"), Producer: []byte("p"), Epoch: 1, Sequence: 301}))},
		{"entry/grant", entry(1, func(e *EntryBuilder) {
			e.AddGrant(&Grant{Group: 3, Repo: []byte("acme/api"), Session: []byte("ci-7"), MaxItems: 32, MaxBytes: 1 << 20, LeaseMs: 30000})
		})},
		{"entry/settle", entry(1, func(e *EntryBuilder) {
			e.AddSettle(&Settle{Group: 3, Repo: []byte("acme/api"), Token: 500, Through: 5, Kind: SettleRetry, Failed: 7, Error: []byte("exit 1"), Results: []SettleResult{{5, left.Append(nil)}}})
		})},
		{"entry/settings", entry(1, func(e *EntryBuilder) {
			e.AddConfigure(&cfg)
			e.AddSetGroup(&gc)
			e.AddFence([]byte("p"), 4)
			e.AddExpire(100)
			e.AddSweep(100)
			e.AddHousekeep(100)
			e.AddBackfill(3, 100)
		})},
		{"entry/dead-letters", entry(1, func(e *EntryBuilder) {
			e.AddDead(DeadRedrive, &DeadFilter{Group: 3, Repo: []byte("acme/api"), Seq: 7, Reason: ReasonPoison, SinceMs: 1_600_000_000_000, UntilMs: 1_700_000_000_000, After: []byte("acme/api\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05")}, 100)
			e.AddPark(100)
		})},
		{"entry/settle-later", entry(1, func(e *EntryBuilder) {
			e.AddSettle(&Settle{Group: 3, Repo: []byte("acme/api"), Token: 500, Kind: SettleRetry, Failed: 7, Error: []byte("429"), RetryAfterMs: 90_000})
		})},
		{"entry/drop-group", entry(1, func(e *EntryBuilder) {
			e.AddDropGroup(3)
			e.AddRemove(100)
		})},
	}
}

// What is durable does not change by accident: a file of an older build must be
// readable for ever, or its version must rise.
func TestGoldenBytes(t *testing.T) {
	var b strings.Builder
	for _, g := range goldenRecords() {
		fmt.Fprintf(&b, "%s %s\n", g.name, hex.EncodeToString(g.bytes))
	}
	file := filepath.Join("testdata", "golden.txt")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(b.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != line {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, got[min(i, len(got)-1)], line)
		}
	}
	if w := strings.Count(string(want), "\n"); w != len(goldenRecords()) {
		t.Errorf("%d golden lines for %d records", w, len(goldenRecords()))
	}
}

// Records decode to what was encoded.
func TestRecordsRoundTrip(t *testing.T) {
	type record interface {
		append([]byte) []byte
		decode([]byte) error
	}
	fresh := map[string]func() record{
		"value/repository":    func() record { return &repo{} },
		"value/producer":      func() record { return &producer{} },
		"value/run":           func() record { return &run{} },
		"value/lane":          func() record { return &lane{} },
		"value/group":         func() record { return &group{} },
		"value/group-deleted": func() record { return &group{} },
		"value/dead":          func() record { return &deadRecord{} },
		"value/lane-rare":     func() record { return &lane{} },
		"value/redriven":      func() record { return &again{} },
	}
	done := 0
	for _, g := range goldenRecords() {
		make, ok := fresh[g.name]
		if !ok {
			continue
		}
		done++
		r := make()
		if err := r.decode(g.bytes); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
		if got := r.append(nil); string(got) != string(g.bytes) {
			t.Errorf("%s: %x became %x", g.name, g.bytes, got)
		}
		for n := range g.bytes { // cut anywhere: an error, never a panic or a guess
			if err := make().decode(g.bytes[:n]); err == nil && g.name != "value/producer" {
				t.Errorf("%s cut at %d decodes", g.name, n)
			}
		}
		future := append([]byte{version1 + 1}, g.bytes[1:]...)
		if err := make().decode(future); err == nil {
			t.Errorf("%s of a newer version decodes", g.name)
		}
	}
	if done != len(fresh) {
		t.Errorf("%d of %d records seen", done, len(fresh))
	}
}
