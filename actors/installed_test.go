package actors

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/internal/written"
	"github.com/waystation/waystation/messages/wire"
	"github.com/waystation/waystation/storage"
	"github.com/waystation/waystation/storage/memstore"
)

// A partition's state that is spilled up to its applied index is all that
// another replica needs: it has the same receipts, the same replicas, and every
// payload, without a log.
func TestInstalledStateIsWhole(t *testing.T) {
	h := newHarness(t, nil)
	h.group("g")
	p := h.partition("r")
	var sent [][]byte
	for i := range 20 {
		sent = append(sent, position("r", "p", 1, uint64(i+1), fmt.Sprint("content ", i)))
	}
	first := h.publish(sent...)
	g, last := p.Group(), h.proposer.last(p.Group())
	h.proposer.truncate(t, g, last)
	conf := []byte("replicas")
	if err := p.ApplyConf(storage.Entry{Index: last + 1, Term: 1}, conf); err != nil {
		t.Fatal(err)
	}
	last++
	h.proposer.truncate(t, g, last)

	// The other replica was there before, with an empty state.
	other := storage.NewState(memstore.New(), slog.New(slog.DiscardHandler))
	f := &harness{t: t, proposer: newFakeProposer(), state: other, registry: prometheus.NewRegistry(), log: &written.Text{}}
	cfg := testConfig()
	var err error
	if f.relay, err = NewRelay(cfg, f.proposer, other, slog.New(slog.DiscardHandler), f.registry); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	q := f.partition("r")
	f.carry(h.state, p, q)
	if index, got, err := q.Applied(); err != nil || index != last || !bytes.Equal(got, conf) {
		t.Fatalf("applied to %d under %q, %v; want %d under %q", index, got, err, last, conf)
	}
	if ok, err := q.Durable(other, last); err != nil || !ok {
		t.Fatalf("not spilled to %d: %v", last, err)
	}
	f.proposer.machines[g] = q
	f.proposer.logs[g] = &fakeLog{last: last, truncated: last, entries: map[uint64][]byte{}}
	f.proposer.lead(g)
	await(t, "leadership", func() bool { _, ok := q.Leading(); return ok })

	for i, a := range f.publish(sent...) {
		if a.seq != first[i].seq || !a.duplicate {
			t.Errorf("packet %d: %+v, was %+v", i+1, a, first[i])
		}
	}
	res, err := f.grant(q, &repository.Grant{Group: 1, Repo: []byte("r"), Session: []byte("w"), MaxItems: 50, MaxBytes: 1 << 20})
	if err != nil || len(res.Items) != len(sent) {
		t.Fatalf("grant: %+v %v", res, err)
	}
	for i, it := range res.Items {
		got, err := q.Payload(it.Ref, nil)
		var back wire.Packet
		if err == nil {
			err = back.Parse(got)
		}
		if want := fmt.Sprint("content ", i); err != nil || string(back.Content) != want {
			t.Errorf("packet %d: %q %v", i+1, back.Content, err)
		}
	}
}

// carry puts what p has in from in the place of q's state, as a snapshot does.
func (h *harness) carry(from *storage.State, p, q *Partition) {
	h.t.Helper()
	var stream bytes.Buffer
	lower, upper := p.KeyRange()
	snap := from.Snapshot()
	_, err := storage.ExportRange(&stream, snap, lower, upper)
	stage, staged := h.state.NewStage(p.Group())
	if staged == nil {
		_, staged = storage.ImportRange(&stream, stage)
	}
	for _, err := range []error{err, snap.Close(), staged, stage.Seal(), h.state.Install(q.Group(), lower, upper), q.Installed()} {
		if err != nil {
			h.t.Fatal(err)
		}
	}
}
