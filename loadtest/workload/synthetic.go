package workload

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Synthetic is a stream of incompressible packets of one size, over
// repositories that are drawn uniformly or by Zipf's law.
type Synthetic struct {
	repos []string
	size  int
	fill  *rand.ChaCha8
	rng   *rand.PCG
	zipf  *zipf
}

// NewSynthetic returns a stream of packets of size bytes over that many
// repositories; the n-th one's weight is 1/n^skew.
func NewSynthetic(repos, size int, skew float64, seed uint64) *Synthetic {
	s := &Synthetic{size: size, rng: rand.NewPCG(seed, 1)}
	s.repos = make([]string, repos)
	for i := range s.repos {
		s.repos[i] = fmt.Sprintf("repo-%06d", i)
	}
	if skew > 0 {
		s.zipf = newZipf(repos, skew)
	}
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	s.fill = rand.NewChaCha8(key)
	return s
}

// Repos are the names of the repositories.
func (s *Synthetic) Repos() []string { return s.repos }

// Next returns the next packet, in buf. What this stream has filled before is
// taken as it is: with thousands of buffers in turn nothing repeats within a
// compressor's reach, and making new bytes would cost more than all the rest.
// It never errs.
func (s *Synthetic) Next(buf []byte) (Item, error) {
	drawn := s.rng.Uint64()
	repo := int(scale(uint32(drawn), uint32(len(s.repos))))
	if s.zipf != nil {
		repo = s.zipf.pick(uint32(drawn), float64(drawn>>32)/(1<<32))
	}
	if len(buf) != s.size {
		buf = make([]byte, s.size)
		_, _ = s.fill.Read(buf) // never errs
	}
	return Item{Repo: repo, Content: buf, Own: s.size >= MarkSize}, nil
}

// scale maps a random 32-bit number onto 0 to n-1.
func scale(random, n uint32) uint32 { return uint32(uint64(random) * uint64(n) >> 32) }
