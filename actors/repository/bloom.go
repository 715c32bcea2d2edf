package repository

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// bloom is a filter over the ids of one bucket: blocked (one cache line an id,
// after Putze, Sanders and Singler 2007), growing by segments of twice the size.
// It only spares point reads; Apply decides the same without it.
type bloom struct {
	segments []bloomSegment
}

type bloomSegment struct {
	blocks [][8]uint64
	room   int
}

const (
	bloomFirst   = 1 << 12 // ids in the first segment
	bloomLargest = 1 << 24
	bloomBits    = 16 // per id: ~0.2 % false positives with six probes in a block of 512 bits
	bloomProbes  = 6
)

func newBloom() *bloom { return &bloom{} }

func hashID(repo string, id []byte) uint64 {
	h := xxhash.Sum64String(repo)
	return bits.RotateLeft64(h, 17)*0x9e3779b97f4a7c15 ^ xxhash.Sum64(id)
}

func (f *bloom) add(h uint64) {
	n := len(f.segments)
	if n == 0 || f.segments[n-1].room == 0 {
		size := min(bloomFirst<<n, bloomLargest)
		f.segments = append(f.segments, bloomSegment{blocks: make([][8]uint64, size*bloomBits/512), room: size})
		n++
	}
	s := &f.segments[n-1]
	s.room--
	b := s.block(h)
	for range bloomProbes {
		h = h*0x9e3779b97f4a7c15 + 1
		bit := h >> 55
		b[bit>>6] |= 1 << (bit & 63)
	}
}

func (s *bloomSegment) block(h uint64) *[8]uint64 {
	hi, _ := bits.Mul64(h, uint64(len(s.blocks)))
	return &s.blocks[hi]
}

func (f *bloom) has(h uint64) bool {
	for i := range f.segments {
		if f.segments[i].has(h) {
			return true
		}
	}
	return false
}

func (s *bloomSegment) has(h uint64) bool {
	b := s.block(h)
	for range bloomProbes {
		h = h*0x9e3779b97f4a7c15 + 1
		bit := h >> 55
		if b[bit>>6]&(1<<(bit&63)) == 0 {
			return false
		}
	}
	return true
}
