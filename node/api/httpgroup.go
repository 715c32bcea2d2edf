package api

import (
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/waystation/waystation/actors"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

func (h *HTTP) createGroup(w http.ResponseWriter, r *http.Request, _ params) error {
	req := &waystationv1.CreateGroupRequest{Settings: &waystationv1.GroupSettings{}}
	if err := h.request(w, r, func(in *jsonReader) { in.group(&req.Name, req.Settings) }); err != nil {
		return err
	}
	g, err := h.calls.cluster.CreateGroup(r.Context(), req.GetName(), req.GetSettings())
	if err != nil {
		return err
	}
	h.write(w, http.StatusOK, GroupJSON(g))
	return nil
}

func (h *HTTP) updateGroup(w http.ResponseWriter, r *http.Request, p params) error {
	settings := &waystationv1.GroupSettings{}
	if err := h.request(w, r, func(in *jsonReader) { in.group(nil, settings) }); err != nil {
		return err
	}
	g, err := h.calls.cluster.UpdateGroup(r.Context(), p.group, settings)
	if err != nil {
		return err
	}
	h.write(w, http.StatusOK, GroupJSON(g))
	return nil
}

func (h *HTTP) deleteGroup(w http.ResponseWriter, r *http.Request, p params) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.calls.cluster.DeleteGroup(r.Context(), p.group); err != nil {
		return err
	}
	h.write(w, http.StatusOK, struct {
		Deleted string `json:"deleted"`
	}{p.group})
	return nil
}

func (h *HTTP) listGroups(w http.ResponseWriter, r *http.Request, _ params) error {
	if _, err := query(r); err != nil {
		return err
	}
	list, err := h.calls.cluster.Groups()
	if err != nil {
		return err
	}
	h.write(w, http.StatusOK, GroupsJSON(list))
	return nil
}

func (h *HTTP) group(w http.ResponseWriter, r *http.Request, p params) error {
	if _, err := query(r); err != nil {
		return err
	}
	list, err := h.calls.cluster.Groups()
	if err != nil {
		return err
	}
	for _, g := range list {
		if g.GetName() == p.group {
			h.write(w, http.StatusOK, GroupJSON(g))
			return nil
		}
	}
	return &callError{Code: actors.CodeNotFound, Field: "group", Message: "there is no such group"}
}

// group reads a group's settings, and its name where that is not in the path.
func (r *jsonReader) group(name *string, s *waystationv1.GroupSettings) {
	r.object(func(key string) {
		switch {
		case key == "name" && name != nil:
			*name = r.text()
		case key == "start":
			s.Start = new(r.text())
		case key == "max_attempts":
			s.MaxAttempts = new(r.uint32())
		case key == "backoff_base":
			s.BackoffBase = durationpb.New(r.duration())
		case key == "backoff_max":
			s.BackoffMax = durationpb.New(r.duration())
		case key == "lease":
			s.Lease = durationpb.New(r.duration())
		case key == "max_batch":
			s.MaxBatch = new(r.uint32())
		case key == "order_policy":
			s.OrderPolicy = new(r.text())
		case key == "result_ttl":
			s.ResultTtl = durationpb.New(r.duration())
		case key == "kind_result_ttl":
			s.KindResultTtl = map[string]*durationpb.Duration{}
			r.object(func(kind string) { s.KindResultTtl[kind] = durationpb.New(r.duration()) })
		default:
			r.unknown()
		}
	})
}

type jsonSettings struct {
	Name        string `json:"name"`
	Version     uint32 `json:"version"`
	Start       string `json:"start"`
	MaxAttempts uint32 `json:"max_attempts"`
	BackoffBase string `json:"backoff_base"`
	BackoffMax  string `json:"backoff_max"`
	Lease       string `json:"lease"`
	MaxBatch    uint32 `json:"max_batch"`
	OrderPolicy string `json:"order_policy"`
	ResultTTL   string `json:"result_ttl"`
	// KindResultTTL has the kinds with a time of their own.
	KindResultTTL map[string]string `json:"kind_result_ttl,omitempty"`
}

// GroupJSON is what GET /v1/groups/{group} answers.
func GroupJSON(g *waystationv1.Group) any { return groupJSON(g) }

// GroupsJSON is what GET /v1/groups answers.
func GroupsJSON(list []*waystationv1.Group) any {
	out := struct {
		Groups []jsonSettings `json:"groups"`
	}{Groups: make([]jsonSettings, len(list))}
	for i, g := range list {
		out.Groups[i] = groupJSON(g)
	}
	return out
}

func groupJSON(g *waystationv1.Group) jsonSettings {
	s := g.GetSettings()
	text := func(d *durationpb.Duration) string { return d.AsDuration().Round(time.Millisecond).String() }
	out := jsonSettings{
		Name: g.GetName(), Version: g.GetVersion(), Start: s.GetStart(), MaxAttempts: s.GetMaxAttempts(), MaxBatch: s.GetMaxBatch(),
		BackoffBase: text(s.GetBackoffBase()), BackoffMax: text(s.GetBackoffMax()), Lease: text(s.GetLease()), OrderPolicy: s.GetOrderPolicy(),
		ResultTTL: text(s.GetResultTtl()),
	}
	for kind, ttl := range s.GetKindResultTtl() {
		if out.KindResultTTL == nil {
			out.KindResultTTL = map[string]string{}
		}
		out.KindResultTTL[kind] = text(ttl)
	}
	return out
}
