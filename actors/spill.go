package actors

import (
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// spillBatch is how much is spilled in one batch of the state, in bytes: memory
// is bounded by it and one entry.
const spillBatch = 1 << 20

// Spill copies what the entries up to upTo hold and something still refers to
// into the state, about budget bytes of it, and says whether all is done.
func (p *Partition) Spill(upTo uint64, budget int, read func(index uint64) ([]byte, error)) (bool, error) {
	for spent := 0; ; {
		n, done, err := p.spillSome(upTo, min(budget-spent, spillBatch), read)
		if err != nil {
			return false, p.wrong(err)
		}
		if spent += n; done || spent >= budget {
			return done, nil
		}
	}
}

// Settled says how far the log is as good as settled: spilling up to there costs
// next to nothing.
func (p *Partition) Settled(upTo uint64) (uint64, error) {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	index, err := p.machine.Settled(upTo)
	if err != nil {
		return 0, p.wrong(err)
	}
	return index, nil
}

// maxSpilledEntries bounds the entries of a batch: most have nothing to spill.
const maxSpilledEntries = 256

func (p *Partition) spillSome(upTo uint64, budget int, read func(index uint64) ([]byte, error)) (n int, done bool, err error) {
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	a := p.appliedSet.get()
	defer p.appliedSet.put(a)
	a.effects.Reset()
	for i := 0; i < maxSpilledEntries && p.machine.Spilled() < upTo && a.effects.Bytes() < budget; i++ {
		index := p.machine.Spilled() + 1
		if err := p.machine.Spill(index, func() ([]byte, error) { return read(index) }, &a.effects); err != nil {
			return 0, false, err
		}
	}
	if a.effects.Len() > 0 {
		if err := p.commit(&a.effects); err != nil {
			return 0, false, err
		}
	}
	return a.effects.Bytes(), p.machine.Spilled() >= upTo, nil
}

// Durable says whether both the applied index and the spilled one are at least
// upTo in r. It touches nothing else of the partition.
func (p *Partition) Durable(r storage.Reader, upTo uint64) (bool, error) {
	for _, key := range [][]byte{p.appliedKey, p.spilledKey} {
		v, err := r.Get(key)
		if errors.Is(err, storage.ErrNotFound) {
			return upTo == 0, nil
		}
		if err != nil {
			return false, fmt.Errorf("partition %d: read durable index: %w", p.id, err)
		}
		index, err := repository.DecodeUint(v)
		if err != nil {
			return false, fmt.Errorf("partition %d: read durable index: %w", p.id, err)
		}
		if index < upTo {
			return false, nil
		}
	}
	return true, nil
}

// Payload appends the packet that ref refers to, as its sender's protobuf bytes,
// to dst: from the log, or from the spill once that prefix is truncated. The
// error wraps ErrGone or ErrDamaged, or is the storage's.
func (p *Partition) Payload(ref repository.Ref, dst []byte) ([]byte, error) {
	dst, err := p.payload(ref, dst)
	damaged := errors.Is(err, ErrDamaged) || errors.Is(err, storage.ErrCorrupt)
	if report := p.relay.cfg.Damaged; damaged && report != nil && report(p.group, err) {
		err = fmt.Errorf("%w: %s", ErrGivenUp, err.Error()) // no kind of damage: others have it
	}
	return dst, err
}

func (p *Partition) payload(ref repository.Ref, dst []byte) ([]byte, error) {
	start := len(dst)
	dst, err := p.relay.proposer.ReadAt(p.group, ref.Index, int(ref.Offset), int(ref.Length), dst)
	if errors.Is(err, storage.ErrCompacted) {
		dst, err = p.readSpill(ref, dst[:start])
	}
	if err != nil {
		return dst[:start], fmt.Errorf("read payload of partition %d index %d offset %d: %w", p.id, ref.Index, ref.Offset, err)
	}
	got := dst[start:]
	if len(got) != int(ref.Length) || crc32.Checksum(got, crc32.MakeTable(crc32.Castagnoli)) != ref.CRC {
		return dst[:start], fmt.Errorf("read payload of partition %d index %d offset %d length %d: %w",
			p.id, ref.Index, ref.Offset, ref.Length, ErrDamaged)
	}
	return dst, nil
}

func (p *Partition) readSpill(ref repository.Ref, dst []byte) ([]byte, error) {
	var data []byte
	var ok bool
	err := p.View(func(m *repository.Machine) (err error) {
		data, ok, err = m.ReadSpill(ref)
		return err
	})
	switch {
	case err != nil:
		return dst, err
	case !ok:
		return dst, ErrGone
	}
	return append(dst, data...), nil
}
