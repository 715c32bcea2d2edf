package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/waystation/waystation/actors/repository"
)

// batchOf is a batch of packets 10, 20, … of which all are handed out.
func batchOf(n int) *Batch[int] {
	b := &Batch[int]{}
	b.Reset(granted(n))
	for {
		if _, _, ok := b.Hand(1); !ok {
			return b
		}
	}
}

func granted(n int) []repository.GrantedItem {
	items := make([]repository.GrantedItem, n)
	for i := range items {
		items[i].Seq = repository.Seq(10 * (i + 1))
	}
	return items
}

// script runs a row of words against a batch, and writes what comes of them:
// "done 10", "retry 20", "dead 20", "hand", "release", "lose 1", "next", "applied",
// "ended", "failed", "end", "suspend", "resume 20", "rewind".
func script(b *Batch[int], lines string) string {
	var out strings.Builder
	ticket := 0
	for line := range strings.Lines(lines) {
		word, arg := strings.TrimSpace(line), 0
		if word == "" {
			continue
		}
		_, _ = fmt.Sscanf(word, "%s %d", &word, &arg)
		fmt.Fprintf(&out, "%s:", strings.TrimSpace(line))
		switch word {
		case "done", "retry", "dead":
			ticket++
			o := map[string]Outcome{"done": Done, "retry": Retry, "dead": Dead}[word]
			v, freed := b.Settle(repository.Seq(arg), o, Why{Text: []byte("why")}, nil, ticket)
			fmt.Fprintf(&out, " %s, %d freed", [...]string{"taken", "repeated", "conflict", "foreign", "over"}[v], freed)
			writeAnswers(&out, b.Stranded(nil))
		case "hand":
			if it, _, ok := b.Hand(1); ok {
				fmt.Fprintf(&out, " %d", it.Seq)
			}
		case "release":
			fmt.Fprintf(&out, " %d freed", b.Release())
			writeAnswers(&out, b.Stranded(nil))
		case "lose":
			fmt.Fprintf(&out, " %d freed", b.Lose(arg, Dead, []byte("damaged")))
		case "next":
			if s, ok := b.Next(); ok {
				fmt.Fprintf(&out, " through %d, %s", s.Through, [...]string{"done", "retry", "dead", "release", "expire"}[s.Kind])
				if s.Failed > 0 {
					fmt.Fprintf(&out, " %d", s.Failed)
				}
			}
		case "applied", "ended":
			answers, settled := b.Applied(word == "ended", nil)
			for _, it := range settled {
				fmt.Fprintf(&out, " %d", it.Seq)
			}
			writeAnswers(&out, answers)
		case "failed":
			writeAnswers(&out, b.Failed(nil))
		case "end":
			answers, held, unseen := b.End(nil)
			fmt.Fprintf(&out, " %d held, %d unseen", held, unseen)
			writeAnswers(&out, answers)
		case "suspend":
			answers, held, unseen := b.Suspend(nil)
			fmt.Fprintf(&out, " %d held, %d unseen", held, unseen)
			writeAnswers(&out, answers)
		case "resume":
			fmt.Fprintf(&out, " %d held", b.Resume(repository.Seq(arg)))
		case "rewind":
			fmt.Fprintf(&out, " %d held", b.Rewind())
		default:
			fmt.Fprintf(&out, " unknown word")
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func writeAnswers(out *strings.Builder, answers []Answer[int]) {
	for _, a := range answers {
		what := "ok"
		if a.Over {
			what = "over"
		}
		fmt.Fprintf(out, ", #%d (%d) %s", a.Ticket, a.Seq, what)
	}
}

func TestBatch(t *testing.T) {
	for _, tc := range []struct{ name, script, want string }{
		{"in order", "done 10\ndone 20\nnext\ndone 30\nnext\napplied\nnext\nended", `
done 10: taken, 1 freed
done 20: taken, 1 freed
next: through 20, done
done 30: taken, 1 freed
next:
applied: 10 20, #1 (10) ok, #2 (20) ok
next: through 30, done
ended: 30, #3 (30) ok`},
		{"out of order waits", "done 30\nnext\ndone 20\nnext\ndone 10\nnext\nended", `
done 30: taken, 1 freed
next:
done 20: taken, 1 freed
next:
done 10: taken, 1 freed
next: through 30, done
ended: 10 20 30, #1 (30) ok, #2 (20) ok, #3 (10) ok`},
		{"a failure in the midst waits for its prefix", "retry 20\nnext\ndone 30\ndone 10\nnext\nended", `
retry 20: taken, 2 freed
next:
done 30: over, 0 freed
done 10: taken, 1 freed
next: through 10, retry 20
ended: 10 20, #1 (20) ok, #3 (10) ok`},
		{"a failure strands what was done behind it", "done 30\nretry 10\nnext\nended", `
done 30: taken, 1 freed
retry 10: taken, 2 freed, #1 (30) over
next: through 0, retry 10
ended: 10, #2 (10) ok`},
		{"an earlier failure replaces a later one", "retry 30\ndead 10\nnext\nended", `
retry 30: taken, 1 freed
dead 10: taken, 2 freed, #1 (30) over
next: through 0, dead 10
ended: 10, #2 (10) ok`},
		{"the same twice", "done 10\ndone 10\nnext\ndone 10\napplied\ndone 10\nretry 10", `
done 10: taken, 1 freed
done 10: taken, 0 freed
next: through 10, done
done 10: taken, 0 freed
applied: 10, #1 (10) ok, #2 (10) ok, #3 (10) ok
done 10: repeated, 0 freed
retry 10: conflict, 0 freed`},
		{"the same failure twice", "retry 10\nretry 10\ndead 10\ndone 10\nnext\nended\nretry 10", `
retry 10: taken, 3 freed
retry 10: taken, 0 freed
dead 10: conflict, 0 freed
done 10: conflict, 0 freed
next: through 0, retry 10
ended: 10, #1 (10) ok, #2 (10) ok
retry 10: repeated, 0 freed`},
		{"a done may not turn into a failure", "done 20\nretry 20\ndone 15", `
done 20: taken, 1 freed
retry 20: conflict, 0 freed
done 15: foreign, 0 freed`},
		{"a step that failed may be said again", "done 10\nretry 20\nnext\nfailed\ndone 10\nretry 20\nnext\nended", `
done 10: taken, 1 freed
retry 20: taken, 2 freed
next: through 10, retry 20
failed:, #1 (10) ok, #2 (20) ok
done 10: taken, 0 freed
retry 20: taken, 0 freed
next: through 10, retry 20
ended: 10 20, #3 (10) ok, #4 (20) ok`},
		{"settled while a step is under way", "done 10\nnext\nretry 20\nnext\napplied\nnext\nended", `
done 10: taken, 1 freed
next: through 10, done
retry 20: taken, 2 freed
next:
applied: 10, #1 (10) ok
next: through 0, retry 20
ended: 20, #2 (20) ok`},
		{"a lease that ran out", "done 20\nend\ndone 10\ndone 20\nnext", `
done 20: taken, 1 freed
end: 2 held, 0 unseen, #1 (20) over
done 10: over, 0 freed
done 20: over, 0 freed
next:`},
		{"no longer led, and again", "done 10\nnext\nsuspend\nhand\nresume 20\nhand\ndone 20\nnext", `
done 10: taken, 1 freed
next: through 10, done
suspend: 2 held, 0 unseen, #1 (10) ok
hand:
resume 20: 2 held
hand:
done 20: taken, 1 freed
next: through 20, done`},
		{"its worker came back", "done 20\nrewind\nhand\nhand\nhand\ndone 10\nnext", `
done 20: taken, 1 freed
rewind: 2 held
hand: 10
hand: 30
hand:
done 10: taken, 1 freed
next: through 20, done`},
		{"a damaged packet ends the lease before it", "lose 1\nnext\ndone 10\nnext\nended", `
lose 1: 2 freed
next:
done 10: taken, 1 freed
next: through 10, dead 20
ended: 10 20, #1 (10) ok`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, want := script(batchOf(3), tc.script), strings.TrimSpace(tc.want)+"\n"; got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestBatchRelease(t *testing.T) {
	for _, tc := range []struct{ name, script, want string }{
		{"nothing was handed out", "release\nnext\nended", `
release: 3 freed
next: through 0, release
ended:`},
		{"the rest goes back behind what was", "hand\nrelease\nnext\nhand\ndone 10\nnext\nended", `
hand: 10
release: 2 freed
next:
hand:
done 10: taken, 1 freed
next: through 10, release
ended: 10, #1 (10) ok`},
		{"what was handed out fails", "hand\nhand\nrelease\nretry 10\nnext\nended", `
hand: 10
hand: 20
release: 1 freed
retry 10: taken, 2 freed
next: through 0, retry 10
ended: 10, #1 (10) ok`},
		{"twice, and after the end", "release\nrelease\nnext\nended\nrelease\ndone 10", `
release: 3 freed
release: 0 freed
next: through 0, release
ended:
release: 0 freed
done 10: over, 0 freed`},
		{"all was handed out", "hand\nhand\nhand\nrelease\nnext", `
hand: 10
hand: 20
hand: 30
release: 0 freed
next:`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &Batch[int]{}
			b.Reset(granted(3))
			if got, want := script(b, tc.script), strings.TrimSpace(tc.want)+"\n"; got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestBatchRestOfALease(t *testing.T) {
	b := &Batch[int]{}
	b.Reset(granted(2))
	b.Inherit()
	if v, _ := b.Settle(5, Done, Why{}, nil, 1); v != Repeated {
		t.Errorf("a packet that was settled before: verdict %d", v)
	}
	if v, _ := b.Settle(5, Retry, Why{}, nil, 1); v != Foreign {
		t.Errorf("a failure of a packet that was settled before: verdict %d", v)
	}
}

func TestBatchStepIsBounded(t *testing.T) {
	b := batchOf(3)
	for i := range 3 {
		b.Settle(repository.Seq(10*(i+1)), Done, Why{}, make([]byte, maxStepBytes*2/3), i)
	}
	var through []repository.Seq
	for {
		s, ok := b.Next()
		if !ok {
			break
		}
		if len(s.Results) != 1 {
			t.Fatalf("a step of %d results", len(s.Results))
		}
		through = append(through, s.Through)
		b.Applied(s.Through == 30, nil)
	}
	if !slices.Equal(through, []repository.Seq{10, 20, 30}) {
		t.Errorf("steps through %v", through)
	}
}

// TestBatchPromises runs random workers against a core that answers as Apply does:
// every ticket is answered once, a step never settles what the worker did not say,
// and each packet's credit is given back once.
func TestBatchPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "packets")
		b := &Batch[int]{}
		b.Reset(granted(n))
		said := map[repository.Seq]Outcome{}
		answered := map[int]int{}
		tickets, freed, cursor := 0, 0, repository.Seq(0)
		note := func(answers []Answer[int]) {
			for _, a := range answers {
				answered[a.Ticket]++
			}
		}
		var flying *Step
		finish := func(kind string) {
			if flying == nil {
				return
			}
			s := *flying
			flying = nil
			if kind == "failed" {
				note(b.Failed(nil))
				clear(said)
				return
			}
			cursor = max(cursor, s.Through)
			ended := s.Kind != repository.SettleDone || cursor == repository.Seq(10*n)
			answers, _ := b.Applied(ended, nil)
			note(answers)
			if ended {
				rest, held, unseen := b.End(nil)
				note(rest)
				freed += held + unseen
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"hand": func(t *rapid.T) {
				if it, _, ok := b.Hand(1); ok && it.freed {
					t.Fatalf("%d is handed out, and its credit was given back", it.Seq)
				}
			},
			"settle": func(t *rapid.T) {
				if b.handed == 0 {
					return
				}
				seq := repository.Seq(10 * rapid.IntRange(1, b.handed).Draw(t, "seq"))
				o := Outcome(rapid.IntRange(1, 3).Draw(t, "outcome"))
				tickets++
				v, k := b.Settle(seq, o, Why{}, nil, tickets)
				freed += k
				if v != Taken {
					answered[tickets]++
				} else if said[seq] == 0 {
					said[seq] = o
				}
				note(b.Stranded(nil))
			},
			"release": func(*rapid.T) {
				freed += b.Release()
				note(b.Stranded(nil))
			},
			"next": func(t *rapid.T) {
				s, ok := b.Next()
				if !ok {
					return
				}
				for seq := cursor + 10; seq <= s.Through; seq += 10 {
					if said[seq] != Done {
						t.Fatalf("a step through %d settles %d, of which the worker said %d", s.Through, seq, said[seq])
					}
				}
				if s.Failed != 0 && (said[s.Failed] < Retry || s.Failed != max(cursor, s.Through)+10) {
					t.Fatalf("a step through %d fails %d, of which the worker said %d", s.Through, s.Failed, said[s.Failed])
				}
				flying = &s
			},
			"applied": func(*rapid.T) { finish("applied") },
			"failed":  func(*rapid.T) { finish("failed") },
		})
		finish("applied")
		answers, held, unseen := b.End(nil)
		note(answers)
		freed += held + unseen
		for i := 1; i <= tickets; i++ {
			if answered[i] != 1 {
				t.Fatalf("ticket %d was answered %d times", i, answered[i])
			}
		}
		if freed != n {
			t.Fatalf("credit of %d packets was given back %d times", n, freed)
		}
	})
}
