package discovery

import (
	"errors"
	"strings"
	"testing"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/cluster/meta"
)

func TestCheckJoin(t *testing.T) {
	red, blue := meta.ClusterID{1}, meta.ClusterID{2}
	for name, c := range map[string]struct {
		change func(here, there *Party)
		want   error
		text   string
	}{
		"fits":               {func(_, _ *Party) {}, nil, ""},
		"own data of it":     {func(h, _ *Party) { h.Cluster = red }, nil, ""},
		"older cluster":      {func(_, o *Party) { o.Level = 1 }, nil, ""},
		"same partitions":    {func(h, _ *Party) { h.Partitions = 16 }, nil, ""},
		"own name, own node": {func(h, o *Party) { o.Names[h.Node] = h.Name }, nil, ""},
		"itself":             {func(h, o *Party) { o.Node, o.Life = h.Node, h.Life }, ErrSelf, "--join none"},
		"a copy":             {func(h, o *Party) { o.Node = h.Node }, ErrCopied, "--data-dir"},
		"other name":         {func(_, o *Party) { o.ClusterName = "z" }, ErrOtherName, "--cluster-name"},
		"nothing there yet":  {func(_, o *Party) { o.Cluster = meta.ClusterID{} }, ErrNoCluster, "--bootstrap-expect"},
		"bootstrapped apart": {func(h, _ *Party) { h.Cluster = blue }, ErrOtherCluster, "never merged"},
		"too old":            {func(_, o *Party) { o.Level = 9 }, ErrVersion, "update"},
		"other format":       {func(_, o *Party) { o.Format = 9 }, ErrFormat, "storage format 9"},
		"partitions":         {func(h, _ *Party) { h.Partitions = 8 }, ErrFormat, "--partitions"},
		"taken name":         {func(h, o *Party) { o.Names[identity.NodeID{7}] = h.Name }, ErrTakenName, "--name"},
	} {
		here := Party{Node: identity.NodeID{1}, Life: 1, Name: "a", ClusterName: "c", Level: 2, Format: 1, DataDir: "/d"}
		there := Party{
			Node: identity.NodeID{2}, Life: 2, Name: "b", ClusterName: "c", Cluster: red, Level: 2, Format: 1, Partitions: 16,
			Address: "h:1", Names: map[identity.NodeID]string{{2}: "b"},
		}
		c.change(&here, &there)
		err := CheckJoin(here, there)
		if !errors.Is(err, c.want) || err != nil && (c.want == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), "h:1")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
