package member

import (
	"log/slog"
	"slices"
	"time"

	"github.com/waystation/waystation/cluster/meta"
)

// picture is what a node has of the partitions, summed up for its log.
type picture struct {
	// led here, voters and learners here, and without a leader anywhere.
	led, voters, learners, leaderless int
}

const (
	// newsQuiet is for how long a picture must stay the same to be told, newsMost
	// how long one that does not is kept back.
	newsQuiet = time.Second
	newsMost  = 10 * time.Second
)

// news decides when a picture is worth a line of the log: not while replicas and
// leaderships move, and not without end.
type news struct {
	said, seen   picture
	begin, since time.Time // when seen began to differ from said, and to be as it is
}

// look says whether p is to be told now.
func (n *news) look(p picture, now time.Time) bool {
	if p == n.said {
		n.begin = time.Time{}
		return false
	}
	if n.begin.IsZero() {
		n.begin = now
	}
	if p != n.seen || n.since.Before(n.begin) {
		n.seen, n.since = p, now
	}
	if now.Sub(n.since) < newsQuiet && now.Sub(n.begin) < newsMost {
		return false
	}
	n.said, n.begin = p, time.Time{}
	return true
}

// picture is what this node has now.
func (m *Member) picture(p *Parts, v *meta.View) (out picture) {
	for i := range v.Cluster.Partitions {
		switch n, ok := m.Leader(i); {
		case !ok:
			out.leaderless++
		case n == m.cfg.Identity.Node:
			out.led++
		}
		st := p.Engine.Status(meta.PartitionGroup(i))
		switch {
		case slices.Contains(st.Conf.Voters, st.Replica):
			out.voters++
		case slices.Contains(st.Conf.Learners, st.Replica):
			out.learners++
		}
	}
	return out
}

// tell logs the picture when it is news.
func (m *Member) tell(n *news, p *Parts, v *meta.View) {
	now := m.picture(p, v)
	if !v.Made() || !n.look(now, time.Now()) {
		return
	}
	level := slog.LevelInfo
	if now.leaderless > 0 {
		level = slog.LevelWarn
	}
	m.log.Log(m.ctx, level, "partitions", "led_here", now.led, "voters_here", now.voters, "learners_here", now.learners,
		"without_leader", now.leaderless, "of", v.Cluster.Partitions)
}
