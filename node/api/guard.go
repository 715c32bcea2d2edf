package api

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/waystation/waystation/node/config"
)

// guard refuses what a web page in a browser on this machine could send: a node
// on loopback has no other protection. A page can reach 127.0.0.1 across origins,
// and, by a name of its own that resolves to it (DNS rebinding), within one.
type guard struct {
	host string // what the node was told to listen on
}

// newGuard protects a node that listens on listen; nil beyond loopback, where
// any name may be the right one.
func newGuard(listen string) *guard {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || !config.LoopbackHost(host) {
		return nil
	}
	return &guard{host: host}
}

func (g *guard) check(r *http.Request) error {
	if g == nil {
		return nil
	}
	// Without any Host it is no browser: those of HTTP/1.0 that look after a node.
	if host := hostOf(r.Host); host != "" && host != g.host && !config.LoopbackHost(host) {
		return &callError{Code: codePermissionDenied, Field: "Host", Message: strconv.Quote(r.Host) +
			" is not this node: on loopback only 127.0.0.1, ::1 and localhost are answered"}
	}
	if origin := r.Header.Get("Origin"); origin != "" && !sameOrigin(origin, r.Host) {
		return &callError{Code: codePermissionDenied, Field: "Origin", Message: strconv.Quote(origin) +
			" is another origin: on loopback web pages of others are refused"}
	}
	// Browsers that leave Origin away, as with images and links, say it here.
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "same-origin", "none":
		return nil
	default:
		return &callError{Code: codePermissionDenied, Field: "Sec-Fetch-Site", Message: strconv.Quote(site) +
			": on loopback web pages of others are refused"}
	}
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "http" && strings.EqualFold(u.Host, host)
}

// hostOf is a Host header without its port, without the dot that may end a name.
func hostOf(header string) string {
	host, _, err := net.SplitHostPort(header)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
