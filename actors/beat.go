package actors

import (
	"sync"
	"time"
)

// beat has the partitions of a node propose at the same moments while there is a
// steady flow. A small entry costs many times what its packets do: frames, syncs
// and wake-ups, here and on the followers. Entries of one moment share these.
//
// The beats are those of the wall clock, because leaders on other nodes have the
// same followers. It decides nothing else: a jump of it is harmless. Beats are
// short, because who waits for each receipt before the next packet pays for them.
type beat struct {
	every time.Duration // 0: never wait
	shift time.Duration // of the relay's clock to the wall's

	mu    sync.Mutex
	index int64 // the beat at hand
	count int   // entries proposed in it
	last  int   // and in the one before
}

const (
	// manyPackets make an entry worth its round at once.
	manyPackets = 64
	// fewEntries make it worth their while to wait for each other; fewer a beat do not.
	fewEntries = 3
)

// proposed counts an entry.
func (b *beat) proposed(now time.Duration) {
	if b.every == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	b.count++
}

// next returns when to propose what comes after an entry that was just applied:
// at the next beat, or 0 if too little is going on for that.
func (b *beat) next(now time.Duration) time.Duration {
	if b.every == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	if max(b.count, b.last) < fewEntries {
		return 0
	}
	return time.Duration((b.index+1)*int64(b.every)) - b.shift
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
