package repository

import (
	"testing"

	"github.com/waystation/waystation/messages/envelope"
)

// FuzzApply feeds entries that no builder built: the machine answers an error, or
// applies them, and never panics.
func FuzzApply(f *testing.F) {
	seedGroup := DefaultGroupConfig("g")
	seedGroup.ID = 1
	cfg := DefaultConfig()
	seeds := []func(*EntryBuilder){
		publishOf("a/b", packet("x"), &PublishItem{Raw: []byte("y"), Rank: RankHigh, Producer: []byte("p"), Epoch: 1, Sequence: 1, ID: []byte("i"), TTLMs: 5, DeliverAfterMs: 2}),
		func(e *EntryBuilder) {
			e.AddGrant(&Grant{Group: 1, Repo: []byte("a/b"), Session: []byte("s"), MaxItems: 4, MaxBytes: 9})
		},
		func(e *EntryBuilder) {
			e.AddSettle(&Settle{Group: 1, Repo: []byte("a/b"), Token: 3, Kind: SettleRetry, Failed: 1, RetryAfterMs: 300})
			e.AddSettle(&Settle{Group: 1, Repo: []byte("a/b"), Token: 3, Through: 1, Kind: SettleRetry, Failed: 2, Error: []byte("no"), Results: []SettleResult{leftWith(1, "r")}})
		},
		func(e *EntryBuilder) { e.AddExpire(3); e.AddSweep(3); e.AddHousekeep(3); e.AddBackfill(1, 2) },
		func(e *EntryBuilder) { e.AddConfigure(&cfg); e.AddSetGroup(&seedGroup); e.AddFence([]byte("p"), 3) },
	}
	for _, s := range seeds {
		f.Add(entry(1000, s)[envelope.Size:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newReplica(t, Options{})
		index := uint64(0)
		for _, s := range seeds {
			index++
			r.apply(index, entry(1000, s))
		}
		data := append(make([]byte, envelope.Size), body...)
		envelope.Envelope{Version: envelope.Version1, Term: 1, TimeMs: 2000}.Put(data)
		r.eff.Reset()
		if err := r.m.Apply(index+1, 1, data, &r.eff); err != nil {
			return
		}
		r.state.write(&r.eff)
		r.restart()
	})
}

// FuzzRecords feeds damaged records to every decoder of the state.
func FuzzRecords(f *testing.F) {
	for _, g := range goldenRecords() {
		f.Add(g.bytes)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = (&repo{}).decode(b)
		_ = (&producer{}).decode(b)
		_ = (&run{}).decode(b)
		_ = (&lane{}).decode(b)
		_ = (&group{}).decode(b)
		_ = (&deadRecord{}).decode(b)
		_ = (&Config{}).Decode(b)
		_ = (&GroupConfig{}).Decode(b)
		_ = (&Machine{}).decodeStats(b)
		splitRepo(b)
	})
}
