package client

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// fallbackResult is what is kept with a packet that a fallback worked off.
type fallbackResult struct {
	FallbackUsed bool   `json:"fallback_used"`
	PrimaryError string `json:"primary_error"`
	Result       any    `json:"result,omitempty"`
}

// FallbackResult is the result to keep with a packet that something else worked off
// than what was to: a JSON object of fallback_used, which is true, primary_error, and
// result: the given one as it is where it is JSON, as a string where it is other
// text, in base64 where it is neither, and absent where it is empty, or where the
// object would be larger than the 1 MiB that is kept.
func FallbackResult(primary error, result []byte) []byte {
	r := fallbackResult{FallbackUsed: true, PrimaryError: message(primary)}
	switch {
	case len(result) == 0:
	case json.Valid(result):
		r.Result = json.RawMessage(result)
	case utf8.Valid(result):
		r.Result = string(result)
	default:
		r.Result = result
	}
	b := r.encode()
	if len(b) > maxResult {
		r.Result = nil
		b = r.encode()
	}
	return b
}

func (r *fallbackResult) encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is no web page, and may become six times as large
	if err := e.Encode(r); err != nil {
		panic(err) // there is nothing in it that could fail
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
