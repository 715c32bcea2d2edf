package server

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/cluster"
	"github.com/waystation/waystation/cluster/meta"
	"github.com/waystation/waystation/storage"
)

// trouble is what is wrong with this node, though it serves; empty if nothing is.
// The others see it in the node's state.
func (n *node) trouble() string {
	if t := n.clockTrouble(); t != "" {
		return t
	}
	if t := n.disk.trouble(); t != "" {
		return t
	}
	return n.damage()
}

func (n *node) clockTrouble() string {
	if !n.clock.Off() {
		return ""
	}
	return fmt.Sprintf("clock off by %v", n.clock.Skew().Round(time.Second))
}

// damage names the replicas that are quarantined.
func (n *node) damage() string {
	var names []string
	for _, g := range n.engine.Groups() {
		if !errors.Is(n.engine.Status(g).Err, cluster.ErrQuarantined) {
			continue
		}
		name := "cluster state"
		if g != meta.MetaGroup {
			name = fmt.Sprintf("partition %d", g-1)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return ""
	}
	if more := len(names) - shownDamage; more > 0 {
		names = append(names[:shownDamage], fmt.Sprintf("%d more", more))
	}
	text := "quarantined: " + strings.Join(names, ", ")
	if slices.ContainsFunc(n.relay.Partitions(), n.stranded) {
		text += "; no other copy: see recover"
	}
	return text
}

// stranded says that a partition is quarantined here that nobody else votes on: it
// stays so until its owner does something.
func (n *node) stranded(p *actors.Partition) bool {
	st := n.engine.Status(p.Group())
	at, known := n.meta.View().Placement(p.Group())
	return errors.Is(st.Err, cluster.ErrQuarantined) && known && slices.Equal(at.Voters, []storage.ReplicaID{st.Replica})
}

// shownDamage bounds how many quarantined replicas a node's state names.
const shownDamage = 3

// noteTrouble logs what is wrong when that begins and when it ends.
func (n *node) noteTrouble(said string) string {
	now := n.clockTrouble()
	switch {
	case now != "" && said == "":
		n.logger.Error("this node hands its leaderships over: set its clock", slog.String("trouble", now))
	case now == "" && said != "":
		n.logger.Info("this node may lead again", slog.String("was", said))
	}
	return now
}
