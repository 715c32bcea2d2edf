package api

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// raw scans a string and returns what is between the quotes, and whether it has
// escapes.
func (r *jsonReader) raw() (s []byte, escaped bool) {
	if !r.take('"') {
		r.syntax("a string")
		return nil, false
	}
	begin := r.at
	for r.at < len(r.data) {
		switch c := r.data[r.at]; {
		case c == '"':
			r.at++
			return r.data[begin : r.at-1], escaped
		case c == '\\':
			escaped = true
			r.at += 2
		case c < ' ':
			r.syntax("an escaped control character")
			return nil, false
		default:
			r.at++
		}
	}
	r.at = len(r.data)
	r.syntax("the end of a string")
	return nil, false
}

func (r *jsonReader) quoted() string {
	s, escaped := r.raw()
	switch {
	case r.err != nil:
		return ""
	case !utf8.Valid(s):
		r.fail("is not valid UTF-8")
		return ""
	case !escaped:
		return string(s)
	}
	return r.unescape(s)
}

const escapes = `"\/bfnrt`

func (r *jsonReader) unescape(s []byte) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			i++
			continue
		}
		if s[i+1] == 'u' { // raw saw a byte behind each backslash
			c, n := unicodeEscape(s[i:])
			if n == 0 {
				r.fail(`has a \u escape that is no character`)
				return ""
			}
			b.WriteRune(c)
			i += n
			continue
		}
		k := strings.IndexByte(escapes, s[i+1])
		if k < 0 {
			r.fail("has an unknown escape \\%c", s[i+1])
			return ""
		}
		b.WriteByte("\"\\/\b\f\n\r\t"[k])
		i += 2
	}
	return b.String()
}

// unicodeEscape reads \uXXXX, or two of them that are a surrogate pair. A lone
// surrogate is no character: n is 0.
func unicodeEscape(s []byte) (c rune, n int) {
	c, ok := hex4(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(c) {
		return c, 6
	}
	low, ok := hex4(s[6:])
	if c = utf16.DecodeRune(c, low); !ok || c == utf8.RuneError {
		return 0, 0
	}
	return c, 12
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(v), err == nil
}

// bytes reads base64: the standard alphabet or the one for URLs, padded or not.
func (r *jsonReader) bytes() []byte {
	if r.null() {
		return nil
	}
	if r.peek() != '"' {
		r.fail("want a string of base64")
		return nil
	}
	s, escaped := r.raw()
	if r.err != nil {
		return nil
	}
	if escaped { // a slash may be written \/
		s = []byte(r.unescape(s))
	}
	s = bytes.TrimRight(s, "=")
	encoding := base64.RawStdEncoding
	if bytes.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	out := make([]byte, encoding.DecodedLen(len(s)))
	n, err := encoding.Decode(out, s)
	if err != nil {
		r.fail("is not valid base64: %v", err)
		return nil
	}
	return out[:n]
}
