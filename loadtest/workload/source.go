package workload

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// cacheBytes is how much of a source is kept in memory. Beyond it files are
// read anew for each packet.
const cacheBytes = 256 << 20

// Source is a stream that replays the files of a folder: each file a packet,
// pass after pass. A pass mixes the repositories and keeps each one's order.
type Source struct {
	root   string
	repos  []string
	files  [][]file // by repository
	rng    *rand.Rand
	order  []int32 // repositories, as often as they have files
	at     int     // in order
	cursor []int   // next file, by repository
	// Files and Bytes were found; Skipped ones are unreadable, no regular files or over the limit.
	Files, Skipped int
	Bytes          int64
}

type file struct {
	path    string // relative to root, with slashes
	content []byte // nil: not cached
	size    int64
}

// OpenSource finds the files of a folder and reads as many as memory is meant
// for. It errs when the folder cannot be read or has no file that fits a packet.
func OpenSource(dir string, seed uint64) (*Source, error) {
	root, err := filepath.Abs(dir)
	if err == nil {
		// The walk does not follow links, and a Go tree's src often is one.
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	s := &Source{root: root, rng: rand.New(rand.NewPCG(seed, 2))}
	byName := map[string]int{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		return s.visit(byName, path, entry, err)
	})
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	if s.Files == 0 {
		return nil, fmt.Errorf("read source: %s has no file that fits a packet", root)
	}
	for repo, files := range s.files {
		for range files {
			s.order = append(s.order, int32(repo))
		}
	}
	s.cursor = make([]int, len(s.files))
	s.begin()
	return s, nil
}

func (s *Source) visit(byName map[string]int, path string, entry fs.DirEntry, err error) error {
	switch {
	case err != nil && path == s.root:
		return err
	case err == nil && entry.IsDir():
		return nil
	}
	f, ok := s.load(path, entry, err)
	if !ok {
		s.Skipped++
		return nil
	}
	name := RepoOf(f.path, filepath.Base(s.root))
	repo, known := byName[name]
	if !known {
		repo = len(s.repos)
		byName[name] = repo
		s.repos = append(s.repos, name)
		s.files = append(s.files, nil)
	}
	s.files[repo] = append(s.files[repo], f)
	s.Files++
	s.Bytes += f.size
	return nil
}

// load reads a file; what is unreadable, no regular file or too large is not
// taken.
func (s *Source) load(path string, entry fs.DirEntry, walked error) (_ file, ok bool) {
	if walked != nil || !entry.Type().IsRegular() {
		return file{}, false
	}
	info, err := entry.Info()
	if err != nil || info.Size() > MaxContent {
		return file{}, false
	}
	content, err := os.ReadFile(path)
	if err != nil || len(content) > MaxContent {
		return file{}, false
	}
	rel, err := filepath.Rel(s.root, path)
	if err != nil {
		return file{}, false
	}
	f := file{path: filepath.ToSlash(rel), size: int64(len(content))}
	if s.Bytes+f.size <= cacheBytes {
		f.content = content
	}
	return f, true
}

// RepoOf returns the repository of a file: the first two elements of its
// folder, or the source folder's own name for files at its root.
func RepoOf(path, root string) string {
	folder := strings.Split(path, "/")
	folder = folder[:len(folder)-1]
	if len(folder) == 0 {
		return strings.ToValidUTF8(root, "\uFFFD")
	}
	return strings.ToValidUTF8(strings.Join(folder[:min(2, len(folder))], "/"), "\uFFFD")
}

// Repos are the names of the repositories.
func (s *Source) Repos() []string { return s.repos }

func (s *Source) begin() {
	s.at = 0
	clear(s.cursor)
	s.rng.Shuffle(len(s.order), func(i, j int) { s.order[i], s.order[j] = s.order[j], s.order[i] })
}

// Next returns the next file. It errs when a file that is not kept in memory
// can no longer be read.
func (s *Source) Next(buf []byte) (Item, error) {
	if s.at == len(s.order) {
		s.begin()
	}
	repo := int(s.order[s.at])
	s.at++
	f := &s.files[repo][s.cursor[repo]]
	s.cursor[repo]++
	item := Item{Repo: repo, Path: strings.ToValidUTF8(f.path, "\uFFFD"), Content: f.content}
	if f.content == nil && f.size > 0 {
		content, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(f.path)))
		if err != nil {
			return Item{}, fmt.Errorf("read source: %w", err)
		}
		item.Content = content[:min(len(content), MaxContent)]
	}
	return item, nil
}
