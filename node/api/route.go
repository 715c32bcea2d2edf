package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/waystation/waystation/actors"
)

// params are what a path says.
type params struct {
	repo     string
	group    string
	sequence uint64
	packet   string // its id, where it may be one
}

type handler func(w http.ResponseWriter, r *http.Request, p params) error

// methods are a path's handlers. HEAD goes where GET goes. Early ones answer
// before there are any calls.
type methods struct {
	get, post, remove handler
	early             bool
}

func (m methods) of(method string) handler {
	switch method {
	case http.MethodGet, http.MethodHead:
		return m.get
	case http.MethodPost:
		return m.post
	case http.MethodDelete:
		return m.remove
	}
	return nil
}

func (m methods) allow() string {
	var names []string
	if m.get != nil {
		names = append(names, http.MethodGet, http.MethodHead)
	}
	if m.post != nil {
		names = append(names, http.MethodPost)
	}
	if m.remove != nil {
		names = append(names, http.MethodDelete)
	}
	return strings.Join(names, ", ")
}

var errNoRoute = &callError{Code: actors.CodeNotFound, Message: "no such route"}

// match finds a path's handlers. It works on the escaped path, segment by
// segment, as http.ServeMux would clean it and redirect: a repository is its
// segments, %2F is a slash within one, and what a file system would resolve is
// refused.
func (h *HTTP) match(escaped string) (methods, params, error) {
	if m, ok := h.fixed[escaped]; ok {
		return m, params{}, nil
	}
	if rest, ok := strings.CutPrefix(escaped, "/v1/repos/"); ok {
		return h.matchRepo(strings.Split(rest, "/"))
	}
	if rest, ok := strings.CutPrefix(escaped, "/v1/groups/"); ok {
		return h.matchGroup(strings.Split(rest, "/"))
	}
	if h.pprof != nil && strings.HasPrefix(escaped, "/debug/pprof") {
		return methods{get: h.pprof, post: h.pprof, early: true}, params{}, nil
	}
	return methods{}, params{}, errNoRoute
}

// matchRepo reads {repo}, {repo}/packets, {repo}/packets/{sequence}, {repo}/call or
// {repo}/results/{packet}.
func (h *HTTP) matchRepo(segments []string) (methods, params, error) {
	const packets = "packets"
	n := len(segments)
	switch {
	case n >= 2 && segments[n-1] == packets:
		return with(methods{get: h.readPackets, post: h.publish}, segments[:n-1], 0)
	case n >= 3 && segments[n-2] == packets:
		sequence, err := strconv.ParseUint(segments[n-1], 10, 64)
		if err != nil || sequence == 0 {
			return methods{}, params{}, invalid("sequence", strconv.Quote(segments[n-1])+
				": want a whole number from 1; slashes of a repository whose name goes on behind /packets/ are written %2F")
		}
		return with(methods{get: h.lookup}, segments[:n-2], sequence)
	}
	switch {
	case n >= 2 && segments[n-1] == "call":
		return h.matchCall(segments)
	case n >= 3 && segments[n-2] == "results":
		return h.matchResult(segments[:n-2], segments[n-1])
	}
	return with(methods{get: h.repository}, segments, 0)
}

func with(m methods, segments []string, sequence uint64) (methods, params, error) {
	repo, err := repoOf(segments)
	return m, params{repo: repo, sequence: sequence}, err
}

func repoOf(segments []string) (string, error) {
	repo, err := url.PathUnescape(strings.Join(segments, "/"))
	if err != nil {
		return "", invalid("repo_id", "is not a valid path: "+err.Error())
	}
	for segment := range strings.SplitSeq(repo, "/") {
		switch segment {
		case "":
			return "", invalid("repo_id", "has an empty segment: write /v1/repos/acme/api, without a slash too many")
		case ".", "..":
			return "", invalid("repo_id", "has the segment "+strconv.Quote(segment)+": those are not resolved, and not allowed in a path")
		}
	}
	return repo, nil
}

func (h *HTTP) matchGroup(segments []string) (methods, params, error) {
	m, ok := h.groups[strings.Join(segments[1:], "/")]
	if !ok {
		return methods{}, params{}, errNoRoute
	}
	group, err := url.PathUnescape(segments[0])
	if err != nil || slices.Contains([]string{"", ".", ".."}, group) {
		return methods{}, params{}, invalid("group", strconv.Quote(group)+": name a group, as in /v1/groups/ci/pull")
	}
	return m, params{group: group}, nil
}
