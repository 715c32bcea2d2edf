package cli

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/waystation/waystation/node/config"
)

var update = flag.Bool("update", false, "write docs/commands.md as the commands say it")

const referencePage = "../../docs/commands.md"

// reference is docs/commands.md: what the commands' own --help says.
func reference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`# Commands and flags

What ` + "`--help`" + ` says, of every command; a test holds this page against the program, and
` + "`go test ./node/cli -run TestReference -update`" + ` writes it. ` + "`node`" + ` below is ` + "`go run ./node`" + ` in the source tree, or
` + "`bin/waystation`" + `, which ` + "`make build`" + ` makes. How to use them: [operations](operations.md). The load test has a ` + "`--help`" + `
of its own: ` + "`go run ./loadtest --help`" + `.

Exit codes of a command: 0 good, 1 the answer is no, 2 usage, 3 no node could be reached. ` + "`WAYSTATION_ADDR`" + ` stands for
` + "`--addr`" + ` where that is not given. With ` + "`--output json`" + ` a command prints JSON objects, a line each, for programs.

`)
	section := func(title, text string) {
		fmt.Fprintf(&b, "## %s\n\n```text\n%s\n```\n\n", title, strings.TrimSpace(text))
	}
	section("node: without a command it serves", "Usage: node [flags]\n\n"+config.Usage())
	help := func(c command, args ...string) {
		r := cli(t, "", append(args, "--help")...)
		if r.code != 0 {
			t.Fatalf("%v --help: %+v", args, r)
		}
		section(strings.Join(args, " ")+": "+c.summary, r.out)
	}
	for _, c := range commands() {
		if c.subs == nil {
			help(c, c.name)
		}
		for _, sub := range c.subs {
			help(sub, c.name, sub.name)
		}
	}
	return strings.TrimSpace(b.String()) + "\n"
}

// TestReference: the page names every command and every flag, as they are.
func TestReference(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referencePage, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the commands say: go test ./node/cli -run TestReference -update", referencePage)
	}
}
