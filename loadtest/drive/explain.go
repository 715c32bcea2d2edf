package drive

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waystation/waystation/loadtest/verify"
)

const (
	explainMost    = 5
	explainTimeout = 10 * time.Second
)

// explain asks the relay what it knows of some of the lost packets: whoever looks
// for the reason begins there. The verdict does not depend on the answers.
func (r *run) explain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	for _, m := range r.verifier.Missing(r.o.Work, explainMost) {
		r.missing = append(r.missing, r.describe(ctx, m))
	}
}

func (r *run) describe(ctx context.Context, m verify.Missing) string {
	var b strings.Builder
	fmt.Fprintf(&b, "lost: %s number %d", r.names.repos[m.Repo], m.Number)
	if m.Delivered {
		b.WriteString(" (delivered, no settlement accepted)")
	}
	info, err := r.sending.Lookup(ctx, r.names.repos[m.Repo], m.Number)
	if err != nil {
		fmt.Fprintf(&b, "; the relay says: %v", err)
		return b.String()
	}
	for _, g := range info.Groups {
		fmt.Fprintf(&b, "; the relay says: %s in %s, %d attempts", g.State, g.Group, g.Attempts)
	}
	if info.Packet == nil {
		b.WriteString("; its content is not kept")
	}
	return b.String()
}
