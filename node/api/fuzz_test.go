package api

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// FuzzJSON: whatever comes, it is read or refused with a field; what is read was
// JSON, and says what encoding/json would have read.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"packets":[{"repo_id":"a\u00e4\ud83d\ude00\n","content":"aGk=","metadata":{"k":"v"},"position":{"producer":"p","epoch":"1","sequence":2}}]}`,
		`{"packets":[{"priority":"low","content_encoding":1,"time_to_live":"1s","created_at":"2026-01-02T03:04:05Z","content_crc32c":5}]}`,
		`{"settlements":[{"repo_id":"a","sequence":"1","lease_token":2,"outcome":"done","result":"-_8"},{"outcome":"retry","retry_after_ms":700}]}`,
		`{"packets":null}`, `null`, `{"packets":[{}`, `"\ud800"`, `{"a":"\`, "{\"packets\":[{\"repo_id\":\"\xff\"}]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var packets []wire.PacketFields
		fault := readJSON(body, func(r *jsonReader) { packets = r.packets(1024) })
		check(t, body, fault)
		if fault == nil {
			compare(t, body, packets)
		}
		check(t, body, readJSON(body, func(r *jsonReader) { r.settle(&waystationv1.SettleRequest{}) }))
		check(t, body, readJSON(body, func(r *jsonReader) { r.renew(&waystationv1.RenewRequest{}) }))
		check(t, body, readJSON(body, func(r *jsonReader) { r.pull(&waystationv1.PullRequest{}) }))
	})
}

func check(t *testing.T, body []byte, fault *callError) {
	t.Helper()
	switch {
	case fault == nil && !json.Valid(body):
		t.Fatalf("accepted what is no JSON: %q", body)
	case fault != nil && (fault.Field == "" || fault.Message == ""):
		t.Fatalf("%q: refused without a reason: %+v", body, fault)
	}
}

func compare(t *testing.T, body []byte, packets []wire.PacketFields) {
	t.Helper()
	var want struct {
		Packets []struct {
			RepoID   string            `json:"repo_id"`
			PacketID string            `json:"packet_id"`
			Metadata map[string]string `json:"metadata"`
		} `json:"packets"`
	}
	if err := json.Unmarshal(body, &want); err != nil {
		// Fields of other types than ours read are not told apart here.
		if strings.Contains(err.Error(), "cannot unmarshal") {
			return
		}
		t.Fatalf("%q: %v", body, err)
	}
	if len(packets) != len(want.Packets) {
		t.Fatalf("%q: %d packets, want %d", body, len(packets), len(want.Packets))
	}
	for i, w := range want.Packets {
		p := packets[i]
		if p.RepoID != w.RepoID || p.PacketID != w.PacketID || len(p.Metadata) != len(w.Metadata) {
			t.Fatalf("%q: got %+v, want %+v", body, p, w)
		}
		for k, v := range p.Metadata {
			if w.Metadata[k] != v || !utf8.ValidString(v) {
				t.Fatalf("%q: metadata %q is %q, want %q", body, k, v, w.Metadata[k])
			}
		}
	}
}
