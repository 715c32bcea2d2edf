package api

import (
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

func (h *HTTP) dead(w http.ResponseWriter, r *http.Request, p params) error {
	values, err := query(r, "repo", "reason", "limit", "cursor", "since", "until")
	if err != nil {
		return err
	}
	limit, err := number(values, "limit", 32)
	if err != nil {
		return err
	}
	since, err := moment(values, "since")
	if err != nil {
		return err
	}
	until, err := moment(values, "until")
	if err != nil {
		return err
	}
	resp, err := h.calls.deadLetters(r.Context(), &waystationv1.ListDeadLettersRequest{
		Group: p.group, RepoId: values.Get("repo"), Reason: values.Get("reason"), Limit: uint32(limit), Cursor: values.Get("cursor"),
		Since: since, Until: until,
	})
	if err != nil {
		return err
	}
	h.write(w, http.StatusOK, DeadLettersJSON(resp))
	return nil
}

func (h *HTTP) redrive(w http.ResponseWriter, r *http.Request, p params) error {
	req := &waystationv1.RedriveDeadLettersRequest{}
	if err := h.request(w, r, func(in *jsonReader) { in.redrive(req) }); err != nil {
		return err
	}
	req.Group = p.group
	longAnswer(w)
	resp, err := h.calls.redriveDead(r.Context(), req)
	if err != nil {
		return err
	}
	h.write(w, http.StatusOK, RedrivenJSON(resp))
	return nil
}

func (h *HTTP) discard(w http.ResponseWriter, r *http.Request, p params) error {
	req := &waystationv1.RedriveDeadLettersRequest{}
	if err := h.request(w, r, func(in *jsonReader) { in.discard(req) }); err != nil {
		return err
	}
	longAnswer(w)
	resp, err := h.calls.discardDead(r.Context(), &waystationv1.DiscardDeadLettersRequest{
		Group: p.group, RepoId: req.GetRepoId(), Sequence: req.GetSequence(), Reason: req.GetReason(),
		Limit: req.GetLimit(), Cursor: req.GetCursor(), Since: req.GetSince(), Until: req.GetUntil(),
	})
	if err != nil {
		return err
	}
	h.write(w, http.StatusOK, DiscardedJSON(resp))
	return nil
}

// longAnswer keeps the server from ending an answer that takes its time: at a rate,
// a redrive may take hours.
func longAnswer(w http.ResponseWriter) {
	// Not every writer has deadlines, and without one there is nothing to lift.
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Time{})
}

// redrive reads what redriving takes, which is what discarding does and a rate.
func (r *jsonReader) redrive(req *waystationv1.RedriveDeadLettersRequest) {
	r.deadOrder(req, true)
}

func (r *jsonReader) discard(req *waystationv1.RedriveDeadLettersRequest) {
	r.deadOrder(req, false)
}

func (r *jsonReader) deadOrder(req *waystationv1.RedriveDeadLettersRequest, rated bool) {
	r.object(func(key string) {
		switch {
		case key == "repo_id":
			req.RepoId = r.text()
		case key == "sequence":
			req.Sequence = r.uint64()
		case key == "reason":
			req.Reason = r.text()
		case key == "limit":
			req.Limit = r.uint32()
		case key == "cursor":
			req.Cursor = r.text()
		case key == "since":
			req.Since = timestamppb.New(r.time())
		case key == "until":
			req.Until = timestamppb.New(r.time())
		case key == "rate" && rated:
			req.Rate = r.uint32()
		default:
			r.unknown()
		}
	})
}

type jsonDead struct {
	RepoID    string `json:"repo_id"`
	Sequence  uint64 `json:"sequence,string"`
	PacketID  string `json:"packet_id"`
	Reason    string `json:"reason"`
	Attempts  uint32 `json:"attempts"`
	LastError string `json:"last_error"`
	At        string `json:"at"`
	// RedriveOf is the dead letter that it was before it was redriven.
	RedriveOf uint64 `json:"redrive_of,string,omitempty"`
	// Failures are the last attempts, oldest first.
	Failures []jsonFailure `json:"failures"`
}

type jsonFailure struct {
	At     string `json:"at"`
	Error  string `json:"error"`
	Silent bool   `json:"silent"`
}

// DeadJSON is one page of a group's dead letters.
type DeadJSON struct {
	Dead   []jsonDead `json:"dead"`
	Cursor string     `json:"cursor"`
}

// DeadLettersJSON is what GET /v1/groups/{group}/dead answers.
func DeadLettersJSON(resp *waystationv1.ListDeadLettersResponse) DeadJSON {
	out := DeadJSON{Dead: make([]jsonDead, 0, len(resp.GetDead())), Cursor: resp.GetCursor()}
	for _, d := range resp.GetDead() {
		out.Dead = append(out.Dead, jsonDead{
			RepoID: d.GetRepoId(), Sequence: d.GetSequence(), PacketID: d.GetPacketId(), Reason: d.GetReason(),
			Attempts: d.GetAttempts(), LastError: d.GetLastError(), At: stamp(d.GetAt()), RedriveOf: d.GetRedriveOf(),
			Failures: make([]jsonFailure, 0, len(d.GetFailures())),
		})
		x := &out.Dead[len(out.Dead)-1]
		for _, f := range d.GetFailures() {
			x.Failures = append(x.Failures, jsonFailure{At: stamp(f.GetAt()), Error: f.GetError(), Silent: f.GetSilent()})
		}
	}
	return out
}

// DeadDoneJSON says how many dead letters were redriven, or discarded.
type DeadDoneJSON struct {
	Redriven  *uint64 `json:"redriven,string,omitempty"`
	Discarded *uint64 `json:"discarded,string,omitempty"`
	Cursor    string  `json:"cursor"`
}

// RedrivenJSON is what POST /v1/groups/{group}/dead/redrive answers.
func RedrivenJSON(resp *waystationv1.RedriveDeadLettersResponse) DeadDoneJSON {
	n := resp.GetRedriven()
	return DeadDoneJSON{Redriven: &n, Cursor: resp.GetCursor()}
}

// DiscardedJSON is what POST /v1/groups/{group}/dead/discard answers.
func DiscardedJSON(resp *waystationv1.DiscardDeadLettersResponse) DeadDoneJSON {
	n := resp.GetDiscarded()
	return DeadDoneJSON{Discarded: &n, Cursor: resp.GetCursor()}
}
