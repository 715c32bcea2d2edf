package cli

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// get reads JSON from the node's HTTP interface.
func get(t *testing.T, addr, path string, into any) {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Packets go to a service, whose answers settle them; the delay that it asks for is
// the lane's.
func TestWorkForward(t *testing.T) {
	e := startNode(t)
	for _, name := range []string{"good", "busy", "wrong"} {
		if r := cli(t, name, "send", "--repo", "acme/"+name, "--meta", "branch=main"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Waystation-Repo") != "acme/"+string(body) || r.Header.Get("Waystation-Group") != "ci" ||
			r.Header.Get("Waystation-Meta-Branch") != "main" || !strings.HasPrefix(r.Header.Get("Webhook-Signature"), "v1,") {
			t.Errorf("%s: %v", body, r.Header)
		}
		switch string(body) {
		case "good":
			_, _ = io.WriteString(w, `{"label":"fine"}`)
		case "busy":
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			http.Error(w, "no such thing", http.StatusUnprocessableEntity)
		}
	}))
	defer s.Close()
	secret := file(t, "secret", "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n")
	before := time.Now()
	if r := cli(t, "", "work", "--group", "ci", "--forward", s.URL, "--secret-file", secret, "--concurrency", "3", "--max", "3"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	var packet struct {
		Groups []struct {
			State, Result string
			LastError     string `json:"last_error"`
		}
	}
	get(t, e.Addresses.HTTP, "/v1/repos/acme/good/packets/1", &packet)
	result, _ := base64.StdEncoding.DecodeString(packet.Groups[0].Result)
	if packet.Groups[0].State != "done" || string(result) != `{"label":"fine"}` {
		t.Errorf("good: %+v", packet)
	}
	get(t, e.Addresses.HTTP, "/v1/repos/acme/wrong/packets/1", &packet)
	if g := packet.Groups[0]; g.State != "dead" || !strings.Contains(g.LastError, "422") || !strings.Contains(g.LastError, "no such thing") {
		t.Errorf("wrong: %+v", packet)
	}
	var repo struct {
		Groups []struct {
			ReadyAt time.Time `json:"ready_at"`
		}
	}
	get(t, e.Addresses.HTTP, "/v1/repos/acme/busy", &repo)
	if at := repo.Groups[0].ReadyAt; at.Before(before.Add(59 * time.Minute)) {
		t.Errorf("busy: ready at %v, asked for an hour after %v", at, before)
	}
}

func TestWorkForwardUsage(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		args []string
		want string
	}{
		"nothing to do":    {nil, "--forward URL"},
		"both":             {[]string{"--forward", "http://127.0.0.1:1", "--", exe}, "not both"},
		"without it":       {[]string{"--timeout", "3s", "--", exe}, "--timeout goes with --forward"},
		"URL":              {[]string{"--forward", "example.com/hook"}, "want http://"},
		"fallback":         {[]string{"--forward", "http://127.0.0.1:1", "--fallback", "x"}, "fallback"},
		"no such file":     {[]string{"--forward", "http://127.0.0.1:1", "--secret-file", "/no/such"}, "--secret-file"},
		"no key":           {[]string{"--forward", "http://127.0.0.1:1", "--secret-file", file(t, "k", "# none\n")}, "--secret-file"},
		"no connection":    {[]string{"--forward", "http://127.0.0.1:1", "--connections-min", "9", "--connections-max", "1"}, "connections"},
		"unknown argument": {[]string{"--forward", "http://127.0.0.1:1", "x"}, "not both"},
	} {
		if r := cli(t, "", append([]string{"work", "--group", "g"}, x.args...)...); r.code != 2 || !strings.Contains(r.err, x.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
