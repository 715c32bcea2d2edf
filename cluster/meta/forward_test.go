package meta

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/storage"
)

// follower returns calls on a node that never leads.
func follower(t *testing.T, f Forwarder) *Calls {
	t.Helper()
	store, err := Open(storage.NewState(openKV(t), slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return NewCalls(store, nil, f)
}

// forwarder carries to a leader, and breaks down on the way as told: before
// the command arrives, or before its result does.
type forwarder struct {
	to           *Calls
	tries        atomic.Int64
	lose, forget int64
	lastKind     uint8
}

func (f *forwarder) Forward(ctx context.Context, kind uint8, body []byte) ([]byte, error) {
	n := f.tries.Add(1)
	f.lastKind = kind
	if n <= f.lose {
		return nil, cluster.ErrNotLeader
	}
	b, err := f.to.HandleForwarded(ctx, kind, body, believe)
	if n <= f.lose+f.forget {
		return nil, errors.New("connection is gone")
	}
	return b, err
}

func believe(Node, bool) error { return nil }

// What a command says of a node may be refused, for good; it comes from that node or
// from another one.
func TestForwardedNodeIsVouchedFor(t *testing.T) {
	leader := open(t, vfs.NewMem())
	if _, err := leader.calls.Init(leader.ctx, *initCommand()); err != nil {
		t.Fatal(err)
	}
	n := node(2, 1, 2)
	for _, x := range []struct {
		cmd    Command
		itself bool
	}{{&JoinNode{n}, false}, {&StartNode{n}, true}} {
		b, err := leader.calls.HandleForwarded(leader.ctx, x.cmd.kind(), x.cmd.append(nil), func(got Node, itself bool) error {
			if got != n || itself != x.itself {
				t.Errorf("%+v, itself %v", got, itself)
			}
			return errors.New("another host")
		})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseResult(b); err != nil || !errors.Is(r.Err, ErrInvalid) {
			t.Errorf("%T: %+v, %v", x.cmd, r, err)
		}
	}
	if n := len(leader.store.View().Nodes); n != 1 {
		t.Errorf("%d nodes", n)
	}
}

func TestForwardedCalls(t *testing.T) {
	leader := open(t, vfs.NewMem())
	if _, err := leader.calls.Init(leader.ctx, *initCommand()); err != nil {
		t.Fatal(err)
	}
	f := &forwarder{to: leader.calls, lose: 2, forget: 2}
	calls := follower(t, f)
	// Carried five times, applied three times: the node has joined once.
	id, err := calls.JoinNode(leader.ctx, node(2, 1, 2))
	if err != nil || id != 6 || f.tries.Load() != 5 || f.lastKind != kindJoinNode {
		t.Fatalf("replica %d after %d tries: %v", id, f.tries.Load(), err)
	}
	if n := len(leader.store.View().Nodes); n != 2 {
		t.Fatalf("%d nodes", n)
	}
	if _, err := calls.JoinNode(leader.ctx, node(2, 1, 3)); !errors.Is(err, ErrCopy) {
		t.Fatalf("a refusal came back as %v", err)
	}
	g, err := calls.EnsureGroup(leader.ctx, "ci", []byte("settings"))
	if err != nil || g.ID != 1 || string(g.Settings) != "settings" {
		t.Fatalf("%+v %v", g, err)
	}
	if epoch, err := calls.OpenProducer(leader.ctx, "p"); err != nil || epoch != 1 {
		t.Fatalf("epoch %d: %v", epoch, err)
	}
}

func TestForwardingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	f := forwardFunc(func(context.Context, uint8, []byte) ([]byte, error) { cancel(); return nil, cluster.ErrNotLeader })
	if _, err := follower(t, f).OpenProducer(ctx, "x"); !errors.Is(err, context.Canceled) || !errors.Is(err, cluster.ErrNotLeader) {
		t.Fatal(err)
	}
	garbage := forwardFunc(func(context.Context, uint8, []byte) ([]byte, error) { return []byte{1, 2, 3}, nil })
	if _, err := follower(t, garbage).OpenProducer(context.Background(), "x"); err == nil {
		t.Fatal("garbage was taken for a result")
	}
}

type forwardFunc func(context.Context, uint8, []byte) ([]byte, error)

func (f forwardFunc) Forward(ctx context.Context, kind uint8, body []byte) ([]byte, error) {
	return f(ctx, kind, body)
}

func TestHandleForwarded(t *testing.T) {
	calls := follower(t, nil)
	ctx := context.Background()
	if _, err := calls.HandleForwarded(ctx, kindOpenProducer, (&OpenProducer{"p"}).append(nil), believe); !errors.Is(err, cluster.ErrNotLeader) {
		t.Fatalf("who does not lead answers %v", err)
	}
	for kind, body := range map[uint8][]byte{200: nil, kindOpenProducer: {9}, kindEnsureGroup: (&EnsureGroup{}).append(nil)} {
		b, err := calls.HandleForwarded(ctx, kind, body, believe)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseResult(b); err != nil || r.Err == nil {
			t.Errorf("kind %d: %+v, %v", kind, r, err)
		}
	}
}

func FuzzResult(f *testing.F) {
	f.Add((&Result{Err: ErrStale, Epoch: 1, Group: Group{Name: "g"}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseResult(b)
		if err == nil && r.Err == nil {
			if _, err := parseResult(r.append(nil)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
