package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size. As text it may carry a unit: 8MiB, 64KiB, 1GiB, 500MB, 4096.
type Bytes int64

// The units.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

// units in the order in which a suffix must be tried: the longer ones first.
var units = []struct {
	suffix string
	factor Bytes
}{
	{"kib", KiB},
	{"mib", MiB},
	{"gib", GiB},
	{"tib", TiB},
	{"kb", 1e3},
	{"mb", 1e6},
	{"gb", 1e9},
	{"tb", 1e12},
	{"k", KiB},
	{"m", MiB},
	{"g", GiB},
	{"t", TiB},
	{"b", 1},
	{"", 1},
}

// ParseBytes reads a size as described at Bytes.
func ParseBytes(s string) (Bytes, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/int64(u.factor) {
			break
		}
		return Bytes(n) * u.factor, nil
	}
	return 0, fmt.Errorf("parse size %q: want a whole number with an optional unit, such as 64KiB, 8MiB or 1GiB", s)
}

// String is the size with the largest unit that keeps it whole.
func (b Bytes) String() string {
	for _, u := range []struct {
		name   string
		factor Bytes
	}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}} {
		if b >= u.factor && b%u.factor == 0 {
			return strconv.FormatInt(int64(b/u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Set and Type make Bytes a flag's value.
func (b *Bytes) Set(s string) error {
	v, err := ParseBytes(s)
	if err == nil {
		*b = v
	}
	return err
}

// Type names the value in a flag's usage.
func (b *Bytes) Type() string { return "size" }
