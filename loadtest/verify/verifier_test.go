package verify

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// clean is what a run of two packets in one repository looks like when all is well.
func clean(v *Verifier) {
	for i := range uint32(2) {
		v.Send(0, Tick(i))
		v.Ack(0, i, uint64(i)+1, false)
		v.Deliver(0, Delivery{Index: i, Number: uint64(i) + 1, Token: 10, At: 20 + Tick(i)})
		v.Settle(0, uint64(i)+1, 10, 30+Tick(i))
		v.Found(0, i, uint64(i)+1)
	}
}

var cleanTotals = Totals{Sent: 2, Acked: 2, Delivered: 2, Settled: 2}

func TestTotals(t *testing.T) {
	total := func(change func(*Totals)) Totals {
		t := cleanTotals
		change(&t)
		return t
	}
	// Each history goes on after clean, in repository 0, whose next packet has index 2 and number 3.
	for _, tc := range []struct {
		name    string
		history func(*Verifier)
		want    Totals
	}{
		{"clean", func(*Verifier) {}, cleanTotals},
		{"acknowledged and never settled", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Deliver(0, Delivery{Index: 2, Number: 3, Token: 11})
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Delivered, t.Lost = 3, 3, 3, 1 })},
		{"dead is not lost", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Dead(0, 3)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Dead = 3, 3, 1 })},
		{"rejected, unknown and unanswered are not lost", func(v *Verifier) {
			v.Send(0, 0)
			v.Reject(0, 2)
			v.Send(0, 0)
			v.Unknown(0, 3)
			v.Send(0, 0)
		}, total(func(t *Totals) { t.Sent, t.Rejected, t.Unknown = 5, 1, 2 })},
		{"unknown, then acknowledged by a resend", func(v *Verifier) {
			v.Send(0, 0)
			v.Unknown(0, 2)
			v.Ack(0, 2, 3, true)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Deduplicated, t.Lost = 3, 3, 1, 1 })},
		{"resend with the same number, marked", func(v *Verifier) {
			v.Ack(0, 1, 2, true)
		}, total(func(t *Totals) { t.Deduplicated = 1 })},
		{"resend with the same number, not marked", func(v *Verifier) {
			v.Ack(0, 1, 2, false)
		}, total(func(t *Totals) { t.Unmarked = 1 })},
		{"resend with another number, counted once", func(v *Verifier) {
			v.Ack(0, 1, 3, true)
			v.Ack(0, 1, 3, true)
		}, total(func(t *Totals) { t.Deduplicated, t.Duplicated = 2, 1 })},
		{"delivered under another number than acknowledged", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Deliver(0, Delivery{Index: 2, Number: 4, Token: 11})
			v.Settle(0, 4, 11, 40)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Delivered, t.Settled, t.Duplicated = 3, 3, 3, 3, 1 })},
		{"delivered before its receipt under another number", func(v *Verifier) {
			v.Send(0, 0)
			v.Deliver(0, Delivery{Index: 2, Number: 4, Token: 11})
			v.Settle(0, 4, 11, 40)
			v.Ack(0, 2, 3, false)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Delivered, t.Settled, t.Duplicated = 3, 3, 3, 3, 1 })},
		{"delivered again before its settlement was seen", func(v *Verifier) {
			v.Deliver(0, Delivery{Index: 1, Number: 2, Token: 10, At: 31})
		}, total(func(t *Totals) { t.Redelivered = 1 })},
		{"delivered again after its settlement", func(v *Verifier) {
			v.Deliver(0, Delivery{Index: 1, Number: 2, Token: 12, At: 32})
		}, total(func(t *Totals) { t.Redelivered, t.Duplicated = 1, 1 })},
		{"first deliveries fall", func(v *Verifier) {
			for i := range uint32(2) {
				v.Send(0, 0)
				v.Ack(0, 2+i, uint64(3+i), false)
			}
			for _, i := range []uint32{1, 0} {
				v.Deliver(0, Delivery{Index: 2 + i, Number: uint64(3 + i), Token: 11})
				v.Settle(0, uint64(3+i), 11, 40)
			}
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Delivered, t.Settled, t.Reordered = 4, 4, 4, 4, 1 })},
		{"first deliveries of two priorities may cross", func(v *Verifier) {
			for i := range uint32(2) {
				v.Send(0, 0)
				v.Ack(0, 2+i, uint64(3+i), false)
			}
			for _, i := range []uint32{1, 0} {
				v.Deliver(0, Delivery{Index: 2 + i, Number: uint64(3 + i), Token: 11, Priority: uint8(i)})
				v.Settle(0, uint64(3+i), 11, 40)
			}
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Delivered, t.Settled = 4, 4, 4, 4 })},
		{"redeliveries may fall", func(v *Verifier) {
			v.Deliver(0, Delivery{Index: 0, Number: 1, Token: 10, At: 25})
		}, total(func(t *Totals) { t.Redelivered = 1 })},
		{"numbers of one producer fall", func(v *Verifier) {
			v.Send(0, 0)
			v.Send(0, 0)
			v.Ack(0, 2, 4, false)
			v.Ack(0, 3, 3, false)
			v.Dead(0, 3)
			v.Dead(0, 4)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Dead, t.Reordered = 4, 4, 2, 1 })},
		{"two packets share a number", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 2, false)
			v.Dead(0, 2)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Dead, t.Reordered = 3, 3, 2, 1 })},
		{"settled with an old token after a newer grant", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Deliver(0, Delivery{Index: 2, Number: 3, Token: 11})
			v.Deliver(0, Delivery{Index: 2, Number: 3, Token: 12})
			v.Settle(0, 3, 11, 40)
		}, total(func(t *Totals) {
			t.Sent, t.Acked, t.Delivered, t.Settled, t.Redelivered, t.StaleAccepted = 3, 3, 3, 3, 1, 1
		})},
		{"a late delivery under an old token changes nothing", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Deliver(0, Delivery{Index: 2, Number: 3, Token: 12})
			v.Deliver(0, Delivery{Index: 2, Number: 3, Token: 11})
			v.Settle(0, 3, 12, 40)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Delivered, t.Settled, t.Redelivered = 3, 3, 3, 3, 1 })},
		{"probe accepted", func(v *Verifier) { v.StaleAccepted(0) }, total(func(t *Totals) { t.StaleAccepted = 1 })},
		{"the same settlement twice", func(v *Verifier) { v.Settle(0, 2, 10, 50) }, cleanTotals},
		{"settled, and only a question tells", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Deliver(0, Delivery{Index: 2, Number: 3, Token: 11})
			v.Confirm(0, 2, 40)
			v.Confirm(0, 2, 41)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Delivered, t.Settled = 3, 3, 3, 3 })},
		{"said to be settled, though no worker had it", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Confirm(0, 2, 40)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Lost = 3, 3, 1 })},
		{"corrupt content is not a delivery", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 3, false)
			v.Corrupt(0)
			v.Settle(0, 3, 11, 40)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Lost, t.Corrupt = 3, 3, 1, 1 })},
		{"a packet that nobody sent", func(v *Verifier) {
			v.Deliver(0, Delivery{Index: 7, Number: 3, Token: 11})
			v.Found(0, 7, 3)
		}, total(func(t *Totals) { t.Corrupt = 2 })},
		{"a priority that does not exist", func(v *Verifier) {
			v.Deliver(0, Delivery{Index: 1, Number: 2, Token: 11, Priority: Priorities})
		}, total(func(t *Totals) { t.Corrupt = 1 })},
		{"a receipt without a number", func(v *Verifier) {
			v.Send(0, 0)
			v.Ack(0, 2, 0, false)
			v.Reject(0, 2)
		}, total(func(t *Totals) { t.Sent, t.Acked, t.Lost, t.Unnumbered, t.Reordered = 3, 3, 1, 1, 1 })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := New(2)
			clean(v)
			tc.history(v)
			if got := v.Totals(true); got != tc.want {
				t.Errorf("\n got %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestTotalsReadBack(t *testing.T) {
	v := New(1)
	for i := range uint32(3) {
		v.Send(0, 0)
		v.Ack(0, i, uint64(i)+1, false)
	}
	v.Found(0, 0, 1)
	v.Found(0, 2, 9)
	want := Totals{Sent: 3, Acked: 3, Lost: 1, Duplicated: 1}
	if got := v.Totals(false); got != want {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestLiveOpen(t *testing.T) {
	v := New(1)
	open := func(want int64) {
		t.Helper()
		if got := v.Live().Open; got != want {
			t.Fatalf("open %d, want %d", got, want)
		}
	}
	for range 4 {
		v.Send(0, 0)
	}
	v.Ack(0, 0, 1, false)
	v.Ack(0, 0, 1, true)
	open(1)
	v.Deliver(0, Delivery{Index: 0, Number: 1, Token: 1})
	v.Settle(0, 1, 1, 1)
	v.Settle(0, 1, 1, 1)
	open(0)
	// Settled before its receipt was seen.
	v.Deliver(0, Delivery{Index: 1, Number: 2, Token: 1})
	v.Settle(0, 2, 1, 1)
	open(0)
	v.Ack(0, 1, 2, false)
	open(0)
	v.Ack(0, 2, 3, false)
	open(1)
	v.Ack(0, 3, 4, false)
	v.Dead(0, 3)
	v.Dead(0, 3)
	open(1)
}

func TestMissing(t *testing.T) {
	v := New(3)
	for r := range 3 {
		v.Send(r, 0)
		v.Ack(r, 0, 7, false)
	}
	v.Deliver(1, Delivery{Number: 7, Token: 1})
	v.Deliver(2, Delivery{Number: 7, Token: 1})
	v.Settle(2, 7, 1, 1)
	v.Found(0, 0, 7)
	want := []Missing{{Repo: 0, Number: 7}, {Repo: 1, Number: 7, Delivered: true}}
	if got := v.Missing(true, 10); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := v.Missing(true, 1); !slices.Equal(got, want[:1]) {
		t.Errorf("got %+v, want %+v", got, want[:1])
	}
	if got := v.Missing(false, 10); len(got) != 2 || got[0].Repo != 1 {
		t.Errorf("read back: got %+v", got)
	}
}

func TestSendTells(t *testing.T) {
	v := New(1)
	send := func(wantIndex uint32, wantAcked bool) {
		t.Helper()
		if index, acked := v.Send(0, 0); index != wantIndex || acked != wantAcked {
			t.Errorf("got %d, %v; want %d, %v", index, acked, wantIndex, wantAcked)
		}
	}
	send(0, true)
	send(1, false)
	v.Ack(0, 1, 2, false)
	send(2, true)
	v.Reject(0, 2)
	send(3, false)
}

func TestDeliverTells(t *testing.T) {
	v := New(1)
	v.Send(0, TickOf(time.Millisecond))
	v.Ack(0, 0, 1, false)
	first := v.Deliver(0, Delivery{Number: 1, Token: 5, At: TickOf(3 * time.Millisecond)})
	if want := (Seen{First: true, Took: 2 * time.Millisecond}); first != want {
		t.Errorf("first: got %+v, want %+v", first, want)
	}
	same := v.Deliver(0, Delivery{Number: 1, Token: 5, At: TickOf(4 * time.Millisecond)})
	if same != (Seen{}) {
		t.Errorf("same token: got %+v", same)
	}
	newer := v.Deliver(0, Delivery{Number: 1, Token: 9, At: TickOf(4 * time.Millisecond)})
	if want := (Seen{OldToken: 5}); newer != want {
		t.Errorf("newer token: got %+v, want %+v", newer, want)
	}
}

// TestMemory holds the verifier to its promise of few bytes a packet, growth included.
func TestMemory(t *testing.T) {
	const repos, packets = 1000, 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	v := New(repos)
	for i := range packets {
		r := i % repos
		index, _ := v.Send(r, Tick(i))
		number := uint64(index) + 1
		v.Ack(r, index, number, false)
		v.Deliver(r, Delivery{Index: index, Number: number, Token: uint64(i)})
		v.Settle(r, number, uint64(i), Tick(i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := float64(after.HeapAlloc-before.HeapAlloc) / packets; per > 32 {
		t.Errorf("%.1f bytes a packet, want at most 32", per)
	}
	if got := v.Totals(true); got.Lost != 0 || got.Settled != packets {
		t.Errorf("got %+v", got)
	}
}

func BenchmarkPacket(b *testing.B) {
	const repos = 1000
	v := New(repos)
	b.ReportAllocs()
	for i := range b.N {
		r := i % repos
		index, _ := v.Send(r, Tick(i))
		number := uint64(index) + 1
		v.Ack(r, index, number, false)
		v.Deliver(r, Delivery{Index: index, Number: number, Token: uint64(i)})
		v.Settle(r, number, uint64(i), Tick(i))
	}
}
