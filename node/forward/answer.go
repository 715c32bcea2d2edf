package forward

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waystation/waystation/client"
)

// mostQuoted is how much of a refusal's body is kept with the error.
const mostQuoted = 512

// mostRetryAfter bounds a Retry-After: the node takes no longer delay.
const mostRetryAfter = 24 * time.Hour

// answer is what a service said.
type answer struct {
	status int // 0: nothing
	header http.Header
	body   []byte
	err    error // why it said nothing
}

func (a *answer) good() bool { return a.err == nil && a.status/100 == 2 }

// down says whether the service, not the packet, is at fault: what a fallback is for.
func (a *answer) down() bool { return a.err != nil || a.status/100 == 5 }

// passing says whether the same packet may be taken later.
func (a *answer) passing() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.down()
}

// verdict is the error to settle the packet with: nil for done.
func (a *answer) verdict(now time.Time) error {
	switch err := a.fault(); {
	case a.good():
		return nil
	case !a.passing():
		return client.Dead(err)
	default:
		return client.RetryAfter(err, retryAfter(a.header.Get("Retry-After"), now))
	}
}

// fault says what was wrong.
func (a *answer) fault() error {
	if a.err != nil {
		return a.err
	}
	quoted := strings.TrimSpace(strings.ToValidUTF8(string(a.body[:min(len(a.body), mostQuoted)]), "\uFFFD"))
	text := fmt.Sprintf("answered %d %s", a.status, http.StatusText(a.status))
	if a.status/100 == 3 {
		text += ", and redirects are not followed"
	}
	if quoted != "" {
		text += ": " + quoted
	}
	return fmt.Errorf("%s", text)
}

// retryAfter reads the header: seconds, or a date; 0 for neither.
func retryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	d := time.Duration(0)
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		d = time.Duration(min(n, uint64(mostRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), mostRetryAfter)
}
