package drive

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waystation/waystation/loadtest/options"
	"github.com/waystation/waystation/loadtest/report"
)

const ms = time.Millisecond

// newTestOutages is for repositories 0 to 3 on partitions 7, 9, 7 and 9.
func newTestOutages() (o *outages, said *[]string) {
	said = new([]string)
	o = newOutages(4, []int{7, 9, 7, 9}, func(_ time.Duration, what string) { *said = append(*said, what) })
	return o, said
}

func TestOutageEndsWithTheLastPartition(t *testing.T) {
	o, said := newTestOutages()
	o.receipt(0, 1*ms, 2*ms)
	over := o.strike("kill", "kill node-2", 100*ms)
	o.receipt(0, 99*ms, 101*ms) // sent before: it tells nothing
	o.receipt(0, 100*ms, 102*ms)
	o.receipt(2, 103*ms, 104*ms) // the same partition
	if len(*said) != 1 {
		t.Fatalf("said %q", *said)
	}
	over()
	o.receipt(3, 500*ms, 850*ms)
	o.receipt(1, 900*ms, 901*ms)
	if want := []string{"kill node-2", "all 2 partitions have receipts again 750ms after: kill node-2"}; !slices.Equal(*said, want) {
		t.Errorf("said %q", *said)
	}
	if got := o.count(); got != "kill 1" {
		t.Errorf("got %q", got)
	}
	if n := o.waiting.Load(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestOutagesSummary(t *testing.T) {
	o, _ := newTestOutages()
	back := func(at time.Duration) { o.receipt(0, at, at); o.receipt(1, at, at) }
	strike := func(kind string, at, took time.Duration) {
		over := o.strike(kind, kind, at)
		back(at + took)
		over()
	}
	strike("kill", 100*ms, 30*ms)
	strike("kill", 200*ms, 10*ms)
	strike("kill", 300*ms, 20*ms)
	// Of two at the same time, neither tells how long one alone takes.
	over := o.strike("pause", "pause", 400*ms)
	strike("kill", 410*ms, 90*ms)
	over()
	_ = o.strike("powerloss", "powerloss", 600*ms)
	want := []string{
		"4 × kill: every partition has receipts again after 20ms in the median, 90ms at most; 3 of them with no other fault at the time: 20ms in the median, 30ms at most",
		"1 × pause: every partition has receipts again after 100ms in the median, 100ms at most",
		"1 × powerloss: the load ended before every partition had a receipt again",
	}
	if got := o.summary(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOutagesWithoutPartitions(t *testing.T) {
	var said []string
	o := newOutages(2, nil, func(_ time.Duration, what string) { said = append(said, what) })
	o.strike("kill", "kill it", 0)()
	o.receipt(1, ms, 2*ms)
	if want := []string{"kill it", "there are receipts again 2ms after: kill it"}; !slices.Equal(said, want) {
		t.Errorf("said %q", said)
	}
	var none *outages
	none.receipt(0, 0, 0)
}

// fakeFleet notes what is done to it.
type fakeFleet struct {
	does []string
	err  error
}

func (f *fakeFleet) Do(_ context.Context, fault options.Fault, began func(string)) error {
	if f.err == nil {
		began(string(fault.Kind))
		f.does = append(f.does, string(fault.Kind))
	}
	return f.err
}

func (f *fakeFleet) RollingRestart(_ context.Context, turn func(i, n int) bool, began func(string)) error {
	for i := range 3 {
		if !turn(i, 3) {
			break
		}
		began("restart")
		f.does = append(f.does, "restart")
	}
	return f.err
}

func (f *fakeFleet) Resize(_ context.Context, n int, began func(string)) error {
	began("resize")
	f.does = append(f.does, strings.Repeat("x", n))
	return f.err
}

func (f *fakeFleet) Died() <-chan error  { return nil }
func (f *fakeFleet) Usage() report.Usage { return report.Usage{} }

func TestFaultsHappenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet := &fakeFleet{}
		o, said := newTestOutages()
		begin := time.Now()
		f := &faults{fleet: fleet, outages: o, now: func() time.Duration { return time.Since(begin) }, warmup: time.Second, duration: 4 * time.Second}
		load, end := context.WithTimeout(t.Context(), 2100*ms)
		defer end()
		if err := f.run(load, t.Context(), options.Fault{Kind: options.Kill, Every: time.Second}); err != nil {
			t.Fatal(err)
		}
		// The restarts are spread over what is measured: at 1, 2 and 3 s.
		begin = time.Now()
		if err := f.roll(t.Context()); err != nil || time.Since(begin) != 3*time.Second {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}
		begin = time.Now()
		if err := f.resize(t.Context(), []int{1, 3, 2, 2}); err != nil || time.Since(begin) != 3*time.Second {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}
		if want := []string{"kill", "kill", "restart", "restart", "restart", "x", "xxx", "xx", "xx"}; !slices.Equal(fleet.does, want) || len(*said) != len(want) {
			t.Errorf("did %v, said %v", fleet.does, *said)
		}
		if o.striking != 0 {
			t.Errorf("%d are not over", o.striking)
		}
		fleet.err = errors.New("no")
		for name, err := range map[string]error{
			"fault kill":      f.run(t.Context(), t.Context(), options.Fault{Kind: options.Kill, Every: time.Second}),
			"rolling restart": f.roll(t.Context()),
			"grow":            f.resize(t.Context(), []int{1}),
		} {
			if !errors.Is(err, fleet.err) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v, want %s", err, name)
			}
		}
	})
}

func TestScreen(t *testing.T) {
	for _, tc := range []struct {
		live bool
		want string
	}{
		{true, "\rone\033[K\rkill\033[K\none\rtwo\033[K\r\033[K"},
		{false, "one\nkill\ntwo\n"},
	} {
		var b strings.Builder
		s := &screen{w: &b, live: tc.live}
		s.show("one")
		s.remark("kill")
		s.show("two")
		s.clear()
		if b.String() != tc.want {
			t.Errorf("live %v: %q", tc.live, b.String())
		}
	}
}
