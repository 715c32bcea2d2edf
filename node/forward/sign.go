package forward

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Key is a secret that requests are signed with.
type Key []byte

const (
	keyPrefix = "whsec_"
	// leastKey and mostKey are what Standard Webhooks asks of a secret, in bytes.
	leastKey, mostKey = 24, 64
	mostKeys          = 8
)

// ReadKeys reads keys, one a line: base64, with or without "whsec_" before it, of
// 24 to 64 bytes. Empty lines, and what begins with #, are passed. At most 8.
func ReadKeys(r io.Reader) ([]Key, error) {
	var keys []Key
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, keyPrefix))
		switch {
		case err != nil:
			return nil, fmt.Errorf("read keys: line %d is not base64", n) // not its text: it is a secret
		case len(key) < leastKey || len(key) > mostKey:
			return nil, fmt.Errorf("read keys: line %d is a key of %d bytes, want %d to %d", n, len(key), leastKey, mostKey)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if len(keys) == 0 || len(keys) > mostKeys {
		return nil, fmt.Errorf("read keys: %d of them, want 1 to %d", len(keys), mostKeys)
	}
	return keys, nil
}

// signature is the webhook-signature header: one signature a key, so that a service
// that knows the old key or the new one can check it while they are changed.
// The scheme is Standard Webhooks' (v1): HMAC-SHA256 of id.timestamp.body.
func signature(keys []Key, id string, at time.Time, body []byte) string {
	var b bytes.Buffer
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + stamp(at) + "."))
		mac.Write(body)
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}

// stamp is the webhook-timestamp header: seconds since 1970.
func stamp(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
