package backup

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// Plan says what a recovery does, and what may be lost by it.
type Plan struct {
	ClusterID string `json:"cluster_id"`
	Cluster   string `json:"cluster"`
	// Node is the one that goes on, on Folder.
	Node   string `json:"node"`
	Folder string `json:"folder"`
	// GivenUp are the members that are removed for good.
	GivenUp []Member       `json:"given_up"`
	Groups  []GroupOutcome `json:"groups"`
	// Done says that it was done; Before is then where the old databases are.
	Done   bool   `json:"done"`
	Before string `json:"before,omitempty"`
}

// Member is a node of the cluster.
type Member struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// GroupOutcome is what becomes of one partition, or of the cluster's own state.
type GroupOutcome struct {
	Meta      bool   `json:"meta,omitempty"`
	Partition uint32 `json:"partition"`
	// From is the folder whose copy is taken, empty if none is; Applied, Committed and Last are the
	// entries that it has applied, knows to be committed, and holds.
	From      string `json:"from"`
	Applied   uint64 `json:"applied,string"`
	Committed uint64 `json:"committed,string"`
	Last      uint64 `json:"last,string"`
	Term      uint64 `json:"term,string"`
	// LastHeard is about when this copy last heard of its leader; nil if nothing says.
	LastHeard *time.Time `json:"last_heard"`
	// Voters are all that decided; Absent those of them that no named folder has.
	Voters []string `json:"voters"`
	Absent []string `json:"absent"`
	// Quarantined says what was found damaged in the copy before. It is taken where
	// there is no other, if all of it can be read.
	Quarantined string `json:"quarantined,omitempty"`
	// Lost says in words what may be lost.
	Lost string `json:"may_be_lost"`
}

// Survey says what Recover would do with the same folders. Nothing is changed, but
// that the databases are opened, as a node's start does.
func Survey(dirs []string, empty []uint, logger *slog.Logger) (*Plan, error) {
	all, err := openSurvivors(dirs, logger)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	p, _, err := all.plan(empty)
	if closed := all.close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	return p, nil
}

// part is the copy that a group goes on from.
type part struct {
	from *survivor
	copy cluster.Copy
	// empty says that there is none: the partition begins anew. Then copy is where
	// all others are.
	empty bool
}

// view is the cluster as of the end of its log.
func (x part) view() (*meta.View, error) {
	store, err := meta.Open(x.from.state)
	if err == nil {
		err = x.copy.Each(x.from.log, func(e storage.Entry) error {
			if cluster.IsChange(e) {
				return nil
			}
			return store.Ahead(e)
		})
	}
	if err != nil {
		return nil, err
	}
	return store.View(), nil
}

func (all survivors) plan(empty []uint) (*Plan, []part, error) {
	first := all[0]
	for _, p := range empty {
		if p >= uint(first.of.Partitions) {
			return nil, nil, fmt.Errorf("%w: partition %d: there are %d", ErrNoPartition, p, first.of.Partitions)
		}
	}
	p := &Plan{ClusterID: first.of.Cluster.String(), Cluster: first.of.Name, Node: first.of.Node, Folder: first.dir}
	var parts []part
	for g := range storage.GroupID(first.of.Partitions) + 1 {
		if g != meta.MetaGroup && slices.Contains(empty, uint(g-1)) {
			parts = append(parts, part{from: first, empty: true})
			continue
		}
		from, c, err := all.find(g)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, part{from: from, copy: c})
	}
	all.begin(parts)
	view, err := parts[0].view()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", parts[0].from.dir, err)
	}
	p.GivenUp = others(view, first.id.Node)
	for i, x := range parts {
		p.Groups = append(p.Groups, all.outcome(storage.GroupID(i), x, view))
	}
	return p, parts, nil
}

// begin has the partitions that are empty go on behind whatever the others got to,
// and the folders say of them. All groups of a cluster have jumped as often, so that
// with the next jump this is above every index that they gave out.
func (all survivors) begin(parts []part) {
	var last storage.Position
	for g, x := range parts {
		last.Index, last.Term = max(last.Index, x.copy.Last.Index), max(last.Term, x.copy.Term)
		for _, s := range all {
			_, to := s.log.Bounds(storage.GroupID(g))
			last.Index = max(last.Index, to)
			if hard, err := s.log.HardState(storage.GroupID(g)); err == nil { // else it is what is damaged
				last.Term = max(last.Term, hard.Term)
			}
		}
	}
	for g := range parts {
		if parts[g].empty {
			parts[g].copy = cluster.Copy{Group: storage.GroupID(g), Last: last, Term: last.Term}
		}
	}
}

// others are the members beside one.
func others(v *meta.View, self identity.NodeID) []Member {
	out := []Member{}
	for _, n := range v.NodesIn(meta.NodeJoining, meta.NodeActive, meta.NodeDraining) {
		if n.ID != self {
			out = append(out, Member{n.Name, n.ID.String()})
		}
	}
	return out
}

// outcome says what becomes of a group.
func (all survivors) outcome(g storage.GroupID, x part, view *meta.View) GroupOutcome {
	o := GroupOutcome{
		Meta: g == meta.MetaGroup, From: x.from.dir, Applied: x.copy.Applied, Committed: x.copy.Commit, Last: x.copy.Last.Index, Term: x.copy.Last.Term,
		Voters: []string{}, Absent: []string{},
	}
	if !o.Meta {
		o.Partition = uint32(g) - 1
	}
	if x.copy.TimeMs > 0 {
		at := time.UnixMilli(x.copy.TimeMs).UTC()
		o.LastHeard = &at
	}
	o.Quarantined = x.copy.Quarantined
	if x.empty {
		o.From, o.Lost = "", "everything: it begins anew, empty"
		o.Applied, o.Committed, o.Last, o.Term = 0, 0, 0, 0
		return o
	}
	here := map[storage.ReplicaID]bool{}
	for _, s := range all {
		if c, err := s.copyOf(g); err == nil {
			here[c.Replica] = true
		}
	}
	for _, r := range voters(x.copy) {
		name := fmt.Sprintf("replica %d", r)
		if id, ok := view.NodeOf(g, r); ok {
			n, _ := view.Node(id)
			name = n.Name
		}
		o.Voters = append(o.Voters, name)
		if !here[r] {
			o.Absent = append(o.Absent, name)
		}
	}
	o.Lost = lost(x.copy, here, o.Absent)
	return o
}

func voters(c cluster.Copy) []storage.ReplicaID {
	out := append(slices.Clone(c.Conf.Voters), c.Conf.Outgoing...)
	slices.Sort(out)
	return slices.Compact(out)
}

// lost says what a majority may have acknowledged that the copy lacks: all that
// came behind its last entry, unless a majority is here.
func lost(c cluster.Copy, here map[storage.ReplicaID]bool, absent []string) string {
	majority := func(list []storage.ReplicaID) bool {
		n := 0
		for _, r := range list {
			if here[r] {
				n++
			}
		}
		return n > len(list)/2 || len(list) == 0
	}
	if majority(c.Conf.Voters) && majority(c.Conf.Outgoing) {
		return "nothing: a majority of its voters is here"
	}
	return fmt.Sprintf("what was acknowledged behind entry %d, by %s", c.Last.Index, strings.Join(absent, ", "))
}
