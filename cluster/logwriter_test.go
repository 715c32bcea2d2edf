package cluster

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster/replica"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// What overwrites entries that wait in the same pass leaves nothing of them,
// and a truncation follows what was appended before it.
func TestLogWriterOverwritesInOnePass(t *testing.T) {
	log, err := storage.NewLog(memstore.New(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	nothing := func() float64 { return 0 }
	m, err := newMetrics(prometheus.NewRegistry(), nothing, nothing)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Log = log
	w := newLogWriter(&Engine{cfg: cfg, metrics: m})
	g := &group{id: 3}
	batch := log.NewBatch()
	batch.PutReplica(storage.ReplicaMeta{Group: 3, Replica: 1, State: storage.ReplicaLive, Truncated: replica.InitialPosition()})
	if err := batch.Commit(true); err != nil {
		t.Fatal(err)
	}
	entries := func(term uint64, indexes ...uint64) (out []storage.Entry) {
		for _, i := range indexes {
			out = append(out, storage.Entry{Index: i, Term: term, Data: []byte{byte(term)}})
		}
		return out
	}
	items := []logItem{
		{group: g, job: &replica.AppendJob{Entries: entries(6, 6, 7, 8, 9, 10), Sync: true}},
		{group: g, job: &replica.AppendJob{Entries: entries(7, 8), StaleFrom: 8, StaleTo: 10, Sync: true}},
		{group: g, job: &replica.AppendJob{Entries: entries(8, 8), StaleFrom: 8, StaleTo: 8, Sync: true}},
		{group: g, truncate: storage.Position{Index: 6, Term: 6}},
		{group: g, job: &replica.AppendJob{}},
	}
	for rest := items; len(rest) > 0; {
		n, err := w.write(rest)
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	got, err := log.Entries(3, 7, 9, 1<<20)
	if err != nil || len(got) != 2 || got[0].Term != 6 || got[1].Term != 8 {
		t.Fatalf("%+v %v", got, err)
	}
	if first, last := log.Bounds(3); first != 7 || last != 8 {
		t.Fatalf("log [%d,%d]", first, last)
	}
}

func TestExtent(t *testing.T) {
	var x extent
	x.found(1, 100, 1000, 100)
	for i := range uint64(20) {
		x.grow(101+i, 50) // a mark every second entry
	}
	if x.retained() != 2000 {
		t.Fatalf("retained %d", x.retained())
	}
	for _, c := range []struct {
		keep int64
		want uint64
	}{{0, 120}, {1, 118}, {400, 112}, {999, 100}, {1000, 100}, {1001, 90}, {1999, 0}} {
		if got := x.target(c.keep); got != c.want {
			t.Errorf("keep %d: %d, want %d", c.keep, got, c.want)
		}
	}
	x.ask(110)
	if got := x.target(500); got != 0 {
		t.Errorf("asked again for %d", got)
	}
	x.cut(110)
	if x.retained() != 500 {
		t.Errorf("retained %d after a cut", x.retained())
	}
	x.cut(90)
	if x.retained() != 500 {
		t.Errorf("retained %d after an old cut", x.retained())
	}
	if x.grow(121, 99) || !x.grow(122, 1) {
		t.Error("marks are not a step apart")
	}
}
