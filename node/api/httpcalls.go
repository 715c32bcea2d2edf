package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
)

// mostBody bounds a JSON request that carries no packets.
const mostBody = 4 << 20

// request reads a JSON body with visit. An empty body stands for {}.
func (h *HTTP) request(w http.ResponseWriter, r *http.Request, visit func(*jsonReader)) error {
	body, release, err := h.readBody(w, r, mostBody, "body")
	if err != nil {
		return err
	}
	defer release()
	if len(body) == 0 {
		return nil
	}
	if fault := readJSON(body, visit); fault != nil {
		return fault
	}
	return nil
}

// query reads the query's parameters; only those that are named may be there.
func query(r *http.Request, names ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("query", "is not valid: "+err.Error())
	}
	for name, v := range values {
		if !slices.Contains(names, name) {
			return nil, invalid(name, "is not a parameter that this call knows")
		}
		if len(v) > 1 {
			return nil, invalid(name, "is there more than once")
		}
	}
	return values, nil
}

func number(values url.Values, name string, bits int) (uint64, error) {
	text := values.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, invalid(name, strconv.Quote(text)+": want a whole number")
	}
	return n, nil
}

// moment is a query's time; nil when it is not given.
func moment(values url.Values, name string) (*timestamppb.Timestamp, error) {
	text := values.Get(name)
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return nil, invalid(name, fmt.Sprintf(`%.40q: want a time such as "2026-01-31T12:00:00Z"`, text))
	}
	return timestamppb.New(t), nil
}

func (h *HTTP) pull(w http.ResponseWriter, r *http.Request, p params) error {
	req := &waystationv1.PullRequest{Group: p.group}
	if err := h.request(w, r, func(in *jsonReader) { in.pull(req) }); err != nil {
		return err
	}
	raw, err := h.calls.pull(r.Context(), req)
	if err != nil {
		return err
	}
	var resp waystationv1.PullResponse
	if err := proto.Unmarshal(raw.Bytes, &resp); err != nil {
		return err
	}
	h.write(w, http.StatusOK, pullJSON(&resp))
	return nil
}

func (h *HTTP) settle(w http.ResponseWriter, r *http.Request, p params) error {
	req := &waystationv1.SettleRequest{Group: p.group}
	if err := h.request(w, r, func(in *jsonReader) { in.settle(req) }); err != nil {
		return err
	}
	resp, err := h.calls.settle(r.Context(), req)
	if err != nil {
		return err
	}
	writeResults(h, w, resp.GetResults(), func(x *waystationv1.SettlementResult) jsonSettled {
		return jsonSettled{RepoID: x.GetRepoId(), Sequence: x.GetSequence(), Error: errorJSON(x.GetError())}
	})
	return nil
}

func (h *HTTP) renew(w http.ResponseWriter, r *http.Request, p params) error {
	req := &waystationv1.RenewRequest{Group: p.group}
	if err := h.request(w, r, func(in *jsonReader) { in.renew(req) }); err != nil {
		return err
	}
	resp, err := h.calls.renew(r.Context(), req)
	if err != nil {
		return err
	}
	writeResults(h, w, resp.GetResults(), func(x *waystationv1.RenewResult) jsonRenewed {
		return jsonRenewed{
			RepoID: x.GetRepoId(), LeaseToken: x.GetLeaseToken(), LeaseExpiresAt: stamp(x.GetLeaseExpiresAt()), Error: errorJSON(x.GetError()),
		}
	})
	return nil
}

// writeResults answers about several items. When all of them failed, the status
// is the first one's: a script that settles one packet under a stale lease gets
// its 409.
func writeResults[P interface {
	GetError() *waystationv1.Error
}, J any](h *HTTP, w http.ResponseWriter, results []P, convert func(P) J,
) {
	out := jsonList[J]{Results: make([]J, len(results))}
	failed := 0
	for i, x := range results {
		out.Results[i] = convert(x)
		if x.GetError() != nil {
			failed++
		}
	}
	status := http.StatusOK
	if failed > 0 && failed == len(results) {
		first := errorFrom(results[0].GetError())
		out.Error, status = errorJSON(first.proto()), first.httpStatus()
		if first.RetryAfter > 0 {
			w.Header().Set("Retry-After", first.retryAfter())
		}
	}
	h.write(w, status, out)
}

func (h *HTTP) cluster(w http.ResponseWriter, r *http.Request, _ params) error {
	if _, err := query(r); err != nil {
		return err
	}
	h.write(w, http.StatusOK, DescribeJSON(h.calls.cluster.Describe(r.Context())))
	return nil
}

func (h *HTTP) repository(w http.ResponseWriter, r *http.Request, p params) error {
	if _, err := query(r); err != nil {
		return err
	}
	resp, err := h.calls.repository(r.Context(), &waystationv1.GetRepositoryRequest{RepoId: p.repo})
	if err != nil {
		return err
	}
	h.write(w, http.StatusOK, RepoJSON(resp))
	return nil
}

func (h *HTTP) lookup(w http.ResponseWriter, r *http.Request, p params) error {
	if _, err := query(r); err != nil {
		return err
	}
	raw, err := h.calls.lookup(r.Context(), &waystationv1.LookupPacketRequest{RepoId: p.repo, Sequence: p.sequence})
	if err != nil {
		return err
	}
	var resp waystationv1.LookupPacketResponse
	if err := proto.Unmarshal(raw.Bytes, &resp); err != nil {
		return err
	}
	h.write(w, http.StatusOK, lookupJSON(p.repo, &resp))
	return nil
}

func (h *HTTP) readPackets(w http.ResponseWriter, r *http.Request, p params) error {
	values, err := query(r, "from", "limit")
	if err != nil {
		return err
	}
	from, err := number(values, "from", 64)
	if err != nil {
		return err
	}
	limit, err := number(values, "limit", 32)
	if err != nil {
		return err
	}
	raw, err := h.calls.readPackets(r.Context(), &waystationv1.ReadPacketsRequest{RepoId: p.repo, From: from, Limit: uint32(limit)})
	if err != nil {
		return err
	}
	var resp waystationv1.ReadPacketsResponse
	if err := proto.Unmarshal(raw.Bytes, &resp); err != nil {
		return err
	}
	h.write(w, http.StatusOK, ReadJSON(&resp))
	return nil
}
