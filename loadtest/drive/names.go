package drive

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"unicode/utf8"

	"github.com/waystation/waystation/client"
	"github.com/waystation/waystation/loadtest/workload"
)

// names are what a run calls its things on the relay: never used before, so
// that a target's other work is left alone.
type names struct {
	run    uint32
	group  string
	prefix string
	repos  []string
	index  map[string]int
}

// newNames is random whatever the seed is: a second run with one seed must not
// meet the first one's repositories.
func newNames(repos []string) *names {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	id := hex.EncodeToString(b[:])
	n := &names{
		run:    binary.BigEndian.Uint32(b[:]),
		group:  "loadtest-" + id,
		prefix: "loadtest-" + id + "/",
		repos:  make([]string, len(repos)),
		index:  make(map[string]int, len(repos)),
	}
	for i, repo := range repos {
		name := fit(n.prefix + repo)
		n.repos[i] = name
		n.index[name] = i
	}
	return n
}

// producer is the name under which the run publishes.
func (n *names) producer() string { return n.group }

// maxRepoID is the relay's limit, in bytes.
const maxRepoID = 512

// fit shortens a name that is over the limit, and keeps it apart from others.
func fit(name string) string {
	if len(name) <= maxRepoID {
		return name
	}
	sum := crc32.ChecksumIEEE([]byte(name))
	cut := name[:maxRepoID-9]
	for !utf8.ValidString(cut) {
		cut = cut[:len(cut)-1]
	}
	return cut + "-" + hex.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// sighting is what a packet that turned up somewhere is.
type sighting int

const (
	// foreign: of somebody else.
	foreign sighting = iota
	// ours: exactly what was sent.
	ours
	// broken: in one of our repositories, and not what was sent there.
	broken
)

// recognise tells which packet this is. repo is of use unless it is foreign.
func (n *names) recognise(repoID string, content []byte, metadata map[string]string) (what sighting, repo int, index uint32) {
	if !strings.HasPrefix(repoID, n.prefix) {
		return foreign, 0, 0
	}
	var mark workload.Mark
	var whole bool
	if text, inMetadata := metadata[workload.MarkKey]; inMetadata {
		mark, whole = workload.ParseMark(text, content)
	} else {
		mark, whole = workload.Stamped(content)
	}
	if !whole || mark.Run != n.run || int(mark.Repo) >= len(n.repos) || n.repos[mark.Repo] != repoID {
		return broken, n.index[repoID], 0
	}
	return ours, int(mark.Repo), mark.Index
}

// dress gives the packet its mark and its names.
func (n *names) dress(p *client.Packet, item workload.Item, index uint32, withID bool) {
	mark := workload.Mark{Run: n.run, Repo: uint32(item.Repo), Index: index}
	metadata := p.Metadata
	*p = client.Packet{RepoID: n.repos[item.Repo], Content: item.Content}
	if item.Own {
		mark.Stamp(item.Content)
	} else {
		if metadata == nil {
			metadata = make(map[string]string, 2)
		}
		metadata[workload.MarkKey] = mark.Text(item.Content)
		if item.Path != "" {
			metadata["path"] = item.Path
		}
		p.Metadata = metadata
	}
	if withID {
		p.PacketID = mark.Text(nil)
	}
}
