package forward

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waystation/waystation/client"
)

// request makes the POST of a delivery. The id stays the same over all attempts,
// the timestamp and with it the signature do not.
func (c *Config) request(ctx context.Context, url string, d *client.Delivery, now time.Time) (*http.Request, error) {
	// With a body of known bytes and an Idempotency-Key net/http sends once more
	// by itself what met a kept connection that the service had just closed.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(d.Content))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	h := r.Header
	id := Identity(c.Group, d.RepoID, d.Sequence)
	h.Set("User-Agent", "waystation")
	h.Set("Content-Type", "application/octet-stream")
	if d.ContentEncoding != client.EncodingIdentity {
		h.Set("Content-Encoding", strings.ToLower(d.ContentEncoding.String()))
	}
	h.Set("Idempotency-Key", id)
	h.Set("Waystation-Repo", escape(d.RepoID))
	h.Set("Waystation-Sequence", strconv.FormatUint(d.Sequence, 10))
	h.Set("Waystation-Attempt", strconv.FormatUint(uint64(d.Attempt), 10))
	h.Set("Waystation-Lease-Token", strconv.FormatUint(d.LeaseToken, 10))
	h.Set("Waystation-Group", escape(c.Group))
	h.Set("Waystation-Priority", strings.ToLower(d.Priority.String()))
	if d.PacketID != "" {
		h.Set("Waystation-Packet-Id", escape(d.PacketID))
	}
	if d.Kind != "" {
		h.Set("Waystation-Kind", escape(d.Kind))
	}
	if d.RedriveOf != 0 {
		h.Set("Waystation-Redrive-Of", strconv.FormatUint(d.RedriveOf, 10))
	}
	if d.Traceparent != "" && strings.Trim(d.Traceparent, "0123456789abcdef-") == "" {
		h.Set("Traceparent", d.Traceparent)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Metadata)) {
		if token(name) {
			h.Add("Waystation-Meta-"+name, escape(d.Metadata[name]))
		}
	}
	if len(c.Keys) > 0 {
		h.Set("Webhook-Id", id)
		h.Set("Webhook-Timestamp", stamp(now))
		h.Set("Webhook-Signature", signature(c.Keys, id, now, d.Content))
	}
	return r, nil
}

// Identity names a packet to a service: the same for each attempt of it, another
// for each group, and without a character that a header or a signature minds.
func Identity(group, repo string, sequence uint64) string {
	h := sha256.New()
	for _, part := range []string{group, repo} { // with lengths: "a"+"bc" is not "ab"+"c"
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	h.Write(binary.BigEndian.AppendUint64(nil, sequence))
	return "pkt_" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:24])
}

// escape percent-encodes what a header cannot carry as it is, and the percent sign,
// so that unescaping gives any value back.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	plain := func(i int) bool {
		c := s[i]
		return c > ' ' && c < 0x7f && c != '%' || c == ' ' && i > 0 && i < len(s)-1
	}
	var b strings.Builder
	for i := range len(s) {
		if plain(i) {
			b.WriteByte(s[i])
			continue
		}
		b.Write([]byte{'%', hex[s[i]>>4], hex[s[i]&15]})
	}
	return b.String()
}

// token says whether a header's name may have it.
func token(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == ""
}
