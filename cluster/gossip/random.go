package gossip

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// source is a random source for several goroutines.
type source struct {
	mu     sync.Mutex
	reader io.Reader
	rng    *rand.Rand // for what may be guessed
}

func (s *source) seed(r io.Reader) error {
	var b [16]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("draw seed: %w", err)
	}
	s.reader = r
	s.rng = rand.New(rand.NewPCG(binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])))
	return nil
}

func (s *source) uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Uint64()
}

// jitter returns between a half of d and one and a half of it.
func (s *source) jitter(d time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return d/2 + time.Duration(s.rng.Int64N(int64(d)+1))
}

// fill fills b from the reader.
func (s *source) fill(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.ReadFull(s.reader, b)
	return err
}
