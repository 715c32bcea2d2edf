package discovery

import (
	"bytes"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waystation/waystation/cluster/discovery/expect"
	"github.com/waystation/waystation/cluster/gossip"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

func TestViewOf(t *testing.T) {
	m := func(id int, cluster meta.ClusterID, expect uint16, s gossip.State) gossip.Member {
		return gossip.Member{Meta: gossip.Meta{Node: nodeID(id), Cluster: cluster, Expect: expect, State: s}}
	}
	v := ViewOf([]gossip.Member{
		m(0, meta.ClusterID{}, 3, gossip.Starting), m(1, meta.ClusterID{}, 5, gossip.Starting), m(2, meta.ClusterID{}, 3, gossip.Leaving),
		m(3, meta.ClusterID{7}, 3, gossip.Serving), m(4, meta.ClusterID{7}, 0, gossip.Serving), m(5, meta.ClusterID{}, 0, gossip.Starting),
	}, 3)
	if !slices.Equal(v.Candidates, []identity.NodeID{nodeID(0)}) || !slices.Equal(v.Made, []meta.ClusterID{{7}}) {
		t.Fatalf("%+v", v)
	}
}

// expecting is a node with --bootstrap-expect as its wiring will be: real gossip,
// a real log, messages by function call.
type expecting struct {
	*testing.T
	id   identity.NodeID
	log  *storage.Log
	g    *gossip.Gossip
	all  map[identity.NodeID]*expecting
	mu   sync.Mutex // guards what follows
	m    *expect.Machine
	made meta.ClusterID
	own  bool
}

func (e *expecting) carryOut(out expect.Effects) []expect.Message {
	if out.Err != nil {
		e.Error(out.Err)
	}
	if out.Record != nil {
		if err := SavePromise(e.log, *out.Record); err != nil {
			e.Error(err)
			return nil
		}
	}
	if out.Make != nil {
		e.made, e.own = out.Make.Cluster, true
	} else if !out.Join.IsZero() {
		e.made = out.Join
	}
	return out.Send
}

// do takes one input and sends what comes of it; no lock is held over a send.
func (e *expecting) do(input func(*expect.Machine) expect.Effects) {
	e.mu.Lock()
	send := e.carryOut(input(e.m))
	e.mu.Unlock()
	for _, msg := range send {
		if to, err := expect.ParseMessage(msg.Encode()); err != nil {
			e.Error(err)
		} else {
			e.all[to.To].do(func(m *expect.Machine) expect.Effects { return m.Step(to) })
		}
	}
}

func (e *expecting) cluster() (meta.ClusterID, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made, e.own
}

// Three nodes over real gossip: one makes the cluster, two join it.
func TestExpectOverGossip(t *testing.T) {
	all := map[identity.NodeID]*expecting{}
	var list []*expecting
	for i := range 3 {
		e := &expecting{T: t, id: nodeID(i), log: open(t, vfs.NewMem()), all: all}
		e.m = expect.New(e.id, 3, nil)
		c := gossip.DefaultConfig()
		c.Cluster, c.Logger, c.Registerer = "c", slog.New(slog.DiscardHandler), prometheus.NewRegistry()
		c.Meta = gossip.Meta{Node: e.id, Expect: 3}
		g, err := gossip.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Stop() })
		e.g, all[e.id] = g, e
		list = append(list, e)
	}
	for _, e := range list {
		e.g.KeepJoining([]string{list[0].g.Address().String(), list[1].g.Address().String(), list[2].g.Address().String()})
	}
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var made []meta.ClusterID
		owners := 0
		for _, e := range list {
			id, own := e.cluster()
			if id.IsZero() {
				e.do(func(m *expect.Machine) expect.Effects { return m.See(ViewOf(e.g.Members(), 3)) })
				e.do((*expect.Machine).Tick)
				continue
			}
			if own {
				owners++
				if err := e.g.UpdateMeta(gossip.Meta{Node: e.id, Cluster: id}); err != nil {
					t.Fatal(err)
				}
			}
			made = append(made, id)
		}
		if len(made) == 3 {
			if owners != 1 || !bytes.Equal(made[0][:], made[1][:]) || made[1] != made[2] {
				t.Fatalf("made %v, by %d", made, owners)
			}
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d of 3 have a cluster: %s", len(made), list[0].m.Status())
		}
	}
}
