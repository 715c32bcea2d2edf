package actors

import (
	"sync"
	"time"
)

// beat has the partitions of a node propose at the same moments while there is a
// steady flow. A small entry costs many times what its packets do: frames, syncs
// and wake-ups, here and on the followers. Entries of one moment share these, and
// hold more packets each.
//
// The beats are those of the wall clock, because leaders on other nodes have the
// same followers. It decides nothing else: a jump of it is harmless. Beats are
// short, because who waits for each receipt before the next packet pays for them.
type beat struct {
	every time.Duration // 0: never wait
	shift time.Duration // of the relay's clock to the wall's

	mu    sync.Mutex
	index int64 // the beat at hand
	count int   // packets proposed in it
	last  int   // and in the one before
}

const (
	// manyPackets make an entry worth its round at once.
	manyPackets = 64
	// steadyPackets make it worth the partitions' while to wait for each other; fewer
	// a beat do not.
	steadyPackets = 8
	// beatStart is the part of a beat in which it is not missed yet.
	beatStart = 4
)

// proposed counts an entry's packets, and returns the beat that it belongs to.
func (b *beat) proposed(now time.Duration, packets int) int64 {
	if b.every == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	b.count += packets
	return b.index
}

// next returns when a partition is to propose whose last entry was of the beat
// last: with the next beat, or at once, which is 0, if too little is going on or
// the beat at hand has only begun.
func (b *beat) next(now time.Duration, last int64) time.Duration {
	if b.every == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	begun := now + b.shift - time.Duration(b.index)*b.every
	if max(b.count, b.last) < steadyPackets || b.index != last && begun < b.every/beatStart {
		return 0
	}
	return time.Duration(b.index+1)*b.every - b.shift
}

func (b *beat) turn(now time.Duration) {
	at := int64((now + b.shift) / b.every)
	switch at {
	case b.index:
		return
	case b.index + 1:
		b.last = b.count
	default:
		b.last = 0
	}
	b.index, b.count = at, 0
}
