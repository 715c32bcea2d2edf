package drive

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/workload"
)

func TestFit(t *testing.T) {
	long := strings.Repeat("ä", 300)
	for _, name := range []string{"", "a/b", long[:510], long, "x" + long} {
		got := fit(name)
		if len(got) > maxRepoID || !utf8.ValidString(got) {
			t.Errorf("%d bytes become %d, %q", len(name), len(got), got)
		}
		if len(name) <= maxRepoID && got != name {
			t.Errorf("%q becomes %q", name, got)
		}
	}
	if fit(long+"a") == fit(long+"b") {
		t.Error("two names became one")
	}
}

func TestRecognise(t *testing.T) {
	n := newNames([]string{"a", "b"})
	other := newNames([]string{"a", "b"})
	dressed := func(n *names, repo int, own bool) client.Packet {
		var p client.Packet
		n.dress(&p, workload.Item{Repo: repo, Content: make([]byte, 32), Own: own, Path: "x.go"}, 5, true)
		return p
	}
	for _, own := range []bool{true, false} {
		p := dressed(n, 1, own)
		if what, repo, index := n.recognise(p.RepoID, p.Content, p.Metadata); what != ours || repo != 1 || index != 5 {
			t.Errorf("own %v: got %v, %d, %d", own, what, repo, index)
		}
		if p.PacketID == "" || p.PacketID == dressed(n, 0, own).PacketID {
			t.Errorf("id %q names two packets", p.PacketID)
		}
		if what, repo, _ := n.recognise(n.repos[0], p.Content, p.Metadata); what != broken || repo != 0 {
			t.Errorf("own %v: in another repository: got %v, %d", own, what, repo)
		}
		if what, _, _ := n.recognise("acme/api", p.Content, p.Metadata); what != foreign {
			t.Errorf("own %v: in somebody's repository: got %v", own, what)
		}
		p = dressed(other, 1, own)
		if what, _, _ := n.recognise(n.repos[1], p.Content, p.Metadata); what != broken {
			t.Errorf("own %v: of another run: got %v", own, what)
		}
	}
	if what, _, _ := n.recognise(n.repos[0], nil, nil); what != broken {
		t.Errorf("empty: got %v", what)
	}
}
