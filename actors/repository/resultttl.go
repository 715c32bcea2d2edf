package repository

import (
	"encoding/binary"
	"slices"
	"strings"
)

// KindTTL is how long the results of one kind of packets are kept, in milliseconds.
type KindTTL struct {
	Kind  string
	TTLMs uint64
}

// MaxKindTTLs bounds the kinds that a group names: those that are labelled, too.
const MaxKindTTLs = 64

// ResultTTL is how long the group keeps the result of a packet of a kind, in
// milliseconds; 0: as long as the partition's settings say.
func (c *GroupConfig) ResultTTL(kind []byte) uint64 {
	for i := range c.KindTTLs {
		if c.KindTTLs[i].Kind == string(kind) {
			return c.KindTTLs[i].TTLMs
		}
	}
	return c.ResultTTLMs
}

// SetKindTTL has results of a kind be kept for ttlMs; 0: like those of any other. It
// leaves what others hold of the list alone.
func (c *GroupConfig) SetKindTTL(kind string, ttlMs uint64) {
	list := slices.Clone(c.KindTTLs)
	at, found := slices.BinarySearchFunc(list, kind, func(x KindTTL, kind string) int { return strings.Compare(x.Kind, kind) })
	switch {
	case found && ttlMs == 0:
		list = slices.Delete(list, at, at+1)
	case found:
		list[at].TTLMs = ttlMs
	case ttlMs != 0:
		list = slices.Insert(list, at, KindTTL{kind, ttlMs})
	}
	c.KindTTLs = list
}

func (c *GroupConfig) longestTTL() uint64 {
	longest := c.ResultTTLMs
	for i := range c.KindTTLs {
		longest = max(longest, c.KindTTLs[i].TTLMs)
	}
	return longest
}

func (c *GroupConfig) appendTTLs(b []byte) []byte {
	b = binary.AppendUvarint(b, c.ResultTTLMs)
	b = binary.AppendUvarint(b, uint64(len(c.KindTTLs)))
	for i := range c.KindTTLs {
		b = appendBytes(b, c.KindTTLs[i].Kind)
		b = binary.AppendUvarint(b, c.KindTTLs[i].TTLMs)
	}
	return b
}

func (c *GroupConfig) decodeTTLs(d *decoder) {
	c.ResultTTLMs = d.uvarint()
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		c.KindTTLs = append(c.KindTTLs, KindTTL{string(d.bytes()), d.uvarint()})
	}
}
