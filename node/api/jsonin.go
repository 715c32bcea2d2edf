package api

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// jsonReader reads a request's JSON by hand. encoding/json would take invalid
// UTF-8 for U+FFFD, ignore the case of keys, and could not say which element of
// a list is at fault; and a content is decoded here straight from the body.
//
// The first fault stays in err, and ends every loop. null stands for a field
// that is not there.
type jsonReader struct {
	data []byte
	at   int
	path []step
	err  *callError
}

// step is a key, or an index when that is not negative.
type step struct {
	key   string
	index int
}

func (r *jsonReader) push(key string) { r.path = append(r.path, step{key: key, index: -1}) }
func (r *jsonReader) pop()            { r.path = r.path[:len(r.path)-1] }

// readJSON reads body with visit, which must read one value.
func readJSON(body []byte, visit func(r *jsonReader)) *callError {
	r := &jsonReader{data: body}
	visit(r)
	r.space()
	if r.err == nil && r.at < len(r.data) {
		r.syntax("nothing more")
	}
	return r.err
}

// field is the path as the caller would write it: packets[3].repo_id.
func (r *jsonReader) field() string {
	var b strings.Builder
	for _, s := range r.path {
		switch {
		case s.index >= 0:
			fmt.Fprintf(&b, "[%d]", s.index)
		case b.Len() > 0:
			b.WriteString("." + s.key)
		default:
			b.WriteString(s.key)
		}
	}
	return b.String()
}

func (r *jsonReader) fail(format string, args ...any) {
	if r.err == nil {
		field := r.field()
		if field == "" {
			field = "body"
		}
		r.err = invalid(field, fmt.Sprintf(format, args...))
	}
	r.at = len(r.data)
}

func (r *jsonReader) syntax(want string) {
	r.fail("is not valid JSON at byte %d: want %s", r.at, want)
}

func (r *jsonReader) space() {
	for r.at < len(r.data) {
		switch r.data[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// peek is the next byte that is not space; 0 at the end.
func (r *jsonReader) peek() byte {
	r.space()
	if r.at < len(r.data) {
		return r.data[r.at]
	}
	return 0
}

func (r *jsonReader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.at++
	return true
}

func (r *jsonReader) null() bool {
	if r.peek() == 'n' && bytes.HasPrefix(r.data[r.at:], []byte("null")) {
		r.at += len("null")
		return true
	}
	return false
}

// object calls visit for each key; visit must read the value, or call unknown.
func (r *jsonReader) object(visit func(key string)) {
	if r.null() {
		return
	}
	if !r.take('{') {
		r.fail("want a JSON object")
		return
	}
	if r.take('}') {
		return
	}
	var seen []string // short: an unknown key ends the reading
	for r.err == nil {
		key := r.key()
		r.push(key)
		if slices.Contains(seen, key) {
			r.fail("is there twice")
		}
		seen = append(seen, key)
		if r.err == nil {
			visit(key)
		}
		r.pop()
		if !r.more('}', "a comma or }") {
			return
		}
	}
}

// key reads a key and its colon.
func (r *jsonReader) key() string {
	key := r.quoted()
	if !r.take(':') && r.err == nil {
		r.syntax("a colon")
	}
	return key
}

// more says whether another element follows.
func (r *jsonReader) more(end byte, want string) bool {
	switch {
	case r.err != nil || r.take(end):
		return false
	case r.take(','):
		return true
	}
	r.syntax(want)
	return false
}

// array calls visit for each element; visit must read it.
func (r *jsonReader) array(visit func()) {
	if r.null() {
		return
	}
	if !r.take('[') {
		r.fail("want a JSON list")
		return
	}
	if r.take(']') {
		return
	}
	for i := 0; r.err == nil; i++ {
		r.path = append(r.path, step{index: i})
		visit()
		r.pop()
		if !r.more(']', "a comma or ]") {
			return
		}
	}
}

func (r *jsonReader) unknown() { r.fail("is not a field that this call knows") }

// text reads a string.
func (r *jsonReader) text() string {
	if r.null() {
		return ""
	}
	if r.peek() != '"' {
		r.fail("want a string")
		return ""
	}
	return r.quoted()
}

// strings reads an object whose values are strings.
func (r *jsonReader) strings() map[string]string {
	if r.null() {
		return nil
	}
	if !r.take('{') {
		r.fail("want an object of strings")
		return nil
	}
	m := make(map[string]string)
	if r.take('}') {
		return m
	}
	for r.err == nil {
		key := r.key()
		r.push(key)
		if _, ok := m[key]; ok {
			r.fail("is there twice")
		}
		if r.err == nil && r.peek() != '"' {
			r.fail("want a string")
		}
		if r.err == nil {
			m[key] = r.quoted()
		}
		r.pop()
		if !r.more('}', "a comma or }") {
			break
		}
	}
	return m
}

// number reads a whole number, bare or as a string, of at most bits bits.
func (r *jsonReader) number(bits int) uint64 {
	if r.null() {
		return 0
	}
	text := r.digits()
	if r.err != nil {
		return 0
	}
	v, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		r.fail("%.40q: want a whole number from 0 to %d", text, ^uint64(0)>>(64-bits))
	}
	return v
}

func (r *jsonReader) digits() string {
	switch c := r.peek(); {
	case c == '"':
		return r.quoted()
	case c == '-', c >= '0' && c <= '9':
		begin := r.at
		for r.at < len(r.data) && strings.IndexByte("+-.eE0123456789", r.data[r.at]) >= 0 {
			r.at++
		}
		return string(r.data[begin:r.at])
	}
	r.fail("want a whole number")
	return ""
}

func (r *jsonReader) uint64() uint64 { return r.number(64) }
func (r *jsonReader) uint32() uint32 { return uint32(r.number(32)) }

// enum reads a name, in any case, or its number.
func (r *jsonReader) enum(names ...string) uint8 {
	if r.null() {
		return 0
	}
	text := r.digitsOrName()
	for i, name := range names {
		if r.err == nil && (strings.EqualFold(text, name) || text == strconv.Itoa(i)) {
			return uint8(i)
		}
	}
	r.fail("%.40q is unknown: want %s", text, strings.Join(names, ", "))
	return 0
}

func (r *jsonReader) digitsOrName() string {
	if r.peek() == '"' {
		return r.quoted()
	}
	return r.digits()
}

// duration reads "3.5s", "250ms" or "1h30m".
func (r *jsonReader) duration() time.Duration {
	text := r.text()
	if r.err != nil || text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		r.fail(`%.40q: want a duration such as "90s" or "1h30m"`, text)
	}
	return d
}

// time reads RFC 3339.
func (r *jsonReader) time() time.Time {
	text := r.text()
	if r.err != nil || text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		r.fail(`%.40q: want a time such as "2026-01-31T12:00:00Z"`, text)
	}
	return t
}
