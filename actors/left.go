package actors

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/wire"
)

// packBeyond is the size in bytes from which on a result is compressed: below it there
// is little to gain, and most have a few hundred bytes.
const packBeyond = 10_000

// packer compresses results before they are proposed, and unpacks them. It is done
// outside of Apply, so that replicas of different builds need not compress alike.
type packer struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newPacker() (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxSettleResult))
	if err != nil {
		return nil, fmt.Errorf("open compressor: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*maxSettleResult))
	if err != nil {
		return nil, fmt.Errorf("open decompressor: %w", err)
	}
	return &packer{enc, dec}, nil
}

// pack returns data compressed if it is long and that makes it shorter, else itself.
func (p *packer) pack(data []byte) (packed []byte, ok bool) {
	if len(data) <= packBeyond {
		return data, false
	}
	packed = p.enc.EncodeAll(data, make([]byte, 0, len(data)/2))
	if len(packed) >= len(data) {
		return data, false
	}
	return packed, true
}

// unpack returns the bytes that the worker left.
func (p *packer) unpack(x *repository.Result) ([]byte, error) {
	if !x.Packed {
		return x.Data, nil
	}
	data, err := p.dec.DecodeAll(x.Data, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack result of packet %d: %w", x.Seq, err)
	}
	return data, nil
}

// left makes what a settlement carries of a result: with the packet's id and kind, which
// Apply goes by and does not see. It may read the packet from the disk. Where that fails
// the result is kept without them: to refuse it would have the packet run again.
func (k *keeper) left(ref repository.Ref, result []byte) []byte {
	var x repository.Left
	var packet wire.Packet
	raw, err := k.p.Payload(ref, nil)
	if err == nil {
		err = packet.Parse(raw)
	}
	if err == nil {
		x.Kind, x.ID, x.ContentCRC = packet.Kind, packet.ID, packet.CRC
	} else if !errors.Is(err, ErrGone) {
		k.d.log.Error("read settled packet", "partition", k.p.ID(), "error", err)
	}
	x.Data, x.Packed = k.d.packer.pack(result)
	return x.Append(make([]byte, 0, len(x.Data)+len(x.Kind)+len(x.ID)+16))
}
