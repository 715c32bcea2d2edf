package actors

import (
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/storage"
)

// Check reads every payload that r, a photo of the partition's state, refers to,
// and holds it against its checksum: in the log, or in the spill. It returns how
// many there are. ErrDamaged, or the storage's ErrCorrupt, says that this replica
// has lost one. pace is called with the bytes of each, and may block, or end it.
func (p *Partition) Check(r storage.Reader, pace func(bytes int) error) (payloads uint64, err error) {
	m, err := repository.New(p.id, stateReader{r}, p.relay.cfg.Machine)
	if err != nil {
		return 0, p.wrong(err)
	}
	c := checker{p: p, m: m, pace: pace}
	err = m.References(c.visit)
	if err != nil {
		err = p.wrong(err)
	}
	return c.n, err
}

type checker struct {
	p    *Partition
	m    *repository.Machine // of the photo
	pace func(int) error
	n    uint64
	buf  []byte
}

func (c *checker) visit(ref repository.Ref) error {
	c.n++
	data, err := c.p.Payload(ref, c.buf[:0])
	if c.buf = data[:0]; errors.Is(err, ErrGone) {
		err = c.gone(ref)
	}
	if err != nil {
		return err
	}
	return c.pace(int(ref.Length))
}

// gone looks into the photo's own spill: what was settled since has no payload any
// more, but what was spilled then must be there.
func (c *checker) gone(ref repository.Ref) error {
	data, ok, err := c.m.ReadSpill(ref)
	switch {
	case err != nil:
		return err
	case !ok && ref.Index > c.m.Spilled():
		return nil
	case !ok, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) != ref.CRC:
		return fmt.Errorf("payload of partition %d index %d offset %d length %d: %w", c.p.id, ref.Index, ref.Offset, ref.Length, ErrDamaged)
	}
	return nil
}
