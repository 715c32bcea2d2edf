package api

import (
	"crypto/rand"
	"mime"
	"net/http"
	"net/url"
	"strconv"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// ResultJSON is what became of a packet in a group, as HTTP answers it.
type ResultJSON struct {
	RepoID   string `json:"repo_id"`
	Sequence uint64 `json:"sequence,string"`
	// PacketID and Duplicate are those of a call's receipt.
	PacketID  string  `json:"packet_id,omitempty"`
	Duplicate *bool   `json:"duplicate,omitempty"`
	Group     string  `json:"group"`
	State     string  `json:"state"`
	Pending   bool    `json:"pending"`
	Result    *[]byte `json:"result,omitempty"`
	ExpiresAt string  `json:"expires_at,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Attempts  uint32  `json:"attempts,omitempty"`
	LastError string  `json:"last_error,omitempty"`
}

// ResultAsJSON is what GET /v1/repos/{repo}/results/{packet} answers.
func ResultAsJSON(x *waystationv1.PacketResult) ResultJSON {
	out := ResultJSON{
		RepoID: x.GetRepoId(), Sequence: x.GetSequence(), Group: x.GetGroup(), State: x.GetState(), Pending: x.GetState() == "pending",
		ExpiresAt: stamp(x.GetExpiresAt()), Reason: x.GetReason(), Attempts: x.GetAttempts(), LastError: x.GetLastError(),
	}
	if x != nil && x.Result != nil {
		out.Result = &x.Result
	}
	return out
}

// CallJSON is what POST /v1/repos/{repo}/call answers.
func CallJSON(x *waystationv1.CallResponse) ResultJSON {
	out := ResultAsJSON(x.GetResult())
	out.PacketID, out.Duplicate = x.GetReceipt().GetPacketId(), &x.Receipt.Duplicate
	return out
}

// writeResult answers 202 while there is none yet.
func (h *HTTP) writeResult(w http.ResponseWriter, out ResultJSON) {
	status := http.StatusOK
	if out.Pending {
		status = http.StatusAccepted
	}
	h.write(w, status, out)
}

func (h *HTTP) call(w http.ResponseWriter, r *http.Request, p params) error {
	group, waitMs, err := waitQuery(r)
	if err != nil {
		return err
	}
	packet, release, err := h.onePacket(w, r, p.repo)
	if err != nil {
		return err
	}
	if packet.PacketID == "" && packet.Producer == "" {
		packet.PacketID = rand.Text()
	}
	frame := wire.AppendFramePacket(make([]byte, 0, wire.SizePacket(&packet)+16), &packet)
	x, err := h.calls.callFrame(r.Context(), frame, group, waitMs, release)
	if err != nil {
		return err
	}
	h.writeResult(w, CallJSON(x))
	return nil
}

// onePacket reads a packet: as JSON, or as a body that is the content. release is
// called once its bytes are needed no more; not after an error.
func (h *HTTP) onePacket(w http.ResponseWriter, r *http.Request, repo string) (packet wire.PacketFields, release func(), err error) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/json" {
		packet, release, err = h.jsonPacket(w, r, repo)
	} else {
		packet, release, err = h.rawPacket(w, r, repo)
	}
	if err != nil {
		return packet, nil, err
	}
	if err := h.checkSize(&packet); err != nil {
		release()
		return packet, nil, err
	}
	return packet, release, nil
}

// waitQuery reads for whose result, and how long, a call waits.
func waitQuery(r *http.Request, more ...string) (group string, waitMs uint32, err error) {
	values, err := query(r, append(more, "group", "wait_ms")...)
	if err != nil {
		return "", 0, err
	}
	if group = values.Get("group"); group == "" {
		return "", 0, invalid("group", "is missing: write ?group=ci")
	}
	wait, err := number(values, "wait_ms", 32)
	return group, uint32(wait), err
}

func (h *HTTP) result(w http.ResponseWriter, r *http.Request, p params) error {
	group, waitMs, err := waitQuery(r, "by")
	if err != nil {
		return err
	}
	req := &waystationv1.GetResultRequest{RepoId: p.repo, Group: group, WaitMs: waitMs, Sequence: p.sequence}
	switch by := r.URL.Query().Get("by"); {
	case by == "id", p.sequence == 0 && by == "":
		req.Sequence, req.PacketId = 0, p.packet
	case by != "" && by != "sequence", p.sequence == 0:
		return invalid("by", strconv.Quote(by)+": want id, or sequence with a whole number from 1")
	}
	x, err := h.calls.result(r.Context(), req)
	if err != nil {
		return err
	}
	h.writeResult(w, ResultAsJSON(x.GetResult()))
	return nil
}

// matchResult reads {repo}/results/{packet}: a whole number is a sequence, anything
// else an id.
func (h *HTTP) matchResult(repo []string, packet string) (methods, params, error) {
	name, err := url.PathUnescape(packet)
	if err != nil || name == "" {
		return methods{}, params{}, invalid("packet_id", strconv.Quote(packet)+": want a packet's id or sequence")
	}
	m, p, err := with(methods{get: h.result}, repo, 0)
	p.packet = name
	p.sequence, _ = strconv.ParseUint(name, 10, 64) // 0: it is an id
	return m, p, err
}

// matchCall reads {repo}/call, to which packets are posted; it may be a repository, too.
func (h *HTTP) matchCall(segments []string) (methods, params, error) {
	whole, err := repoOf(segments)
	if err != nil {
		return methods{}, params{}, err
	}
	get := func(w http.ResponseWriter, r *http.Request, p params) error {
		p.repo = whole
		return h.repository(w, r, p)
	}
	return with(methods{get: get, post: h.call}, segments[:len(segments)-1], 0)
}
