package meta

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// Meta's keys are all of its state: another node that installs them has the same
// view, and tells who watches.
func TestInstalledStateIsWhole(t *testing.T) {
	f := open(t, vfs.NewMem())
	if _, err := f.calls.Init(f.ctx, *initCommand()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.calls.OpenProducer(f.ctx, "p"); err != nil {
		t.Fatal(err)
	}
	snap := f.state.Snapshot()
	defer func() { _ = snap.Close() }()
	var stream bytes.Buffer
	lower, upper := f.store.KeyRange()
	if _, err := storage.ExportRange(&stream, snap, lower, upper); err != nil {
		t.Fatal(err)
	}

	state := storage.NewState(memstore.New(), slog.New(slog.DiscardHandler))
	other, err := Open(state)
	if err != nil {
		t.Fatal(err)
	}
	var seen *View
	other.Watch(func(v *View) { seen = v })
	stage, err := state.NewStage(MetaGroup)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := storage.ImportRange(&stream, stage); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{stage.Seal(), state.Install(MetaGroup, lower, upper), other.Installed()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want, _, err := f.store.AppliedIn(snap)
	if err != nil {
		t.Fatal(err)
	}
	if got, conf, err := other.Applied(); err != nil || got != want || conf != nil {
		t.Fatalf("applied to %d under %q, %v; want %d", got, conf, err, want)
	}
	if seen.Cluster != f.store.View().Cluster || len(seen.Nodes) != len(f.store.View().Nodes) {
		t.Fatalf("%+v", seen)
	}
	if epoch, err := other.epoch("p"); err != nil || epoch == 0 {
		t.Fatalf("epoch %d: %v", epoch, err)
	}

	// The replicas are kept with the index.
	if err := other.ApplyConf(storage.Entry{Index: want + 1, Term: 9}, []byte("replicas")); err != nil {
		t.Fatal(err)
	}
	if got, conf, err := other.Applied(); err != nil || got != want+1 || string(conf) != "replicas" {
		t.Fatalf("applied to %d under %q, %v", got, conf, err)
	}
}
