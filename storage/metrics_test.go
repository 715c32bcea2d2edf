package storage_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/storage"
)

func TestLogMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	c := smallLog(vfs.NewMem())
	c.Registerer = registry
	for range 2 { // a second life in one process registers again
		l, err := storage.OpenLog(c)
		if err != nil {
			t.Fatal(err)
		}
		before := syncs(t, registry)
		for i := range 3 {
			b := l.NewBatch()
			b.PutNode([]byte("key"), []byte{byte(i)})
			if err := b.Commit(i != 1); err != nil {
				t.Fatal(err)
			}
		}
		if got := syncs(t, registry) - before; got != 2 {
			t.Errorf("2 synced batches of 3 are counted as %d syncs", got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil || len(families) != 0 {
			t.Errorf("metrics left after close: %v, %v", families, err)
		}
	}
	l, err := storage.OpenLog(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c.Dir = "data/other"
	if _, err := storage.OpenLog(c); err == nil {
		t.Error("two logs registered the same metrics")
	}
}

func syncs(t *testing.T, registry *prometheus.Registry) uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "waystation_fsync_duration_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatal("no waystation_fsync_duration_seconds")
	return 0
}
