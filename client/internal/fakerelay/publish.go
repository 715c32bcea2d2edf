package fakerelay

import (
	"errors"
	"hash/crc32"
	"io"
	"slices"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

type recordKey struct{ producer, repo string }

// record is what the relay knows of a producer in a repository.
type record struct {
	epoch, last uint64
	sequences   map[uint64]uint64 // the producer's numbers to the repository's
}

// PublishStream takes frames and answers each of them.
func (r *Relay) PublishStream(s grpc.BidiStreamingServer[waystationv1.PublishStreamRequest, waystationv1.PublishStreamResponse]) error {
	if r.OnOpen != nil {
		if err := r.OnOpen("PublishStream"); err != nil {
			return err
		}
	}
	frames, failed := received(s.Context(), func() (*codec.PublishFrame, error) {
		f := new(codec.PublishFrame)
		return f, s.RecvMsg(f)
	})
	cut := r.cutting()
	var index uint64
	for {
		select {
		case f := <-frames:
			if err := r.frame(s, f, &index); err != nil {
				return err
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-cut:
			return errCut
		}
	}
}

func (r *Relay) frame(s grpc.ServerStream, f *codec.PublishFrame, index *uint64) error {
	defer f.Free()
	r.mu.Lock()
	r.frames++
	n := r.frames
	r.mu.Unlock()
	if r.OnFrame != nil {
		if err := r.OnFrame(n); err != nil {
			return err
		}
	}
	var answer []byte
	for i := range f.Packets {
		result, err := r.accept(&f.Packets[i])
		if err != nil {
			return err
		}
		answer = wire.AppendResult(answer, *index, &result)
		*index++
	}
	if r.OnAnswer != nil {
		if err := r.OnAnswer(n); err != nil {
			return err
		}
	}
	return s.SendMsg(&codec.Raw{Bytes: answer})
}

func refusal(code, field, message string) wire.ResultView {
	return wire.ResultView{Code: code, Field: field, Message: message}
}

func (r *Relay) accept(p *wire.Packet) (wire.ResultView, error) {
	if !p.HasCRC || crc32.Checksum(p.Content, crc32.MakeTable(crc32.Castagnoli)) != p.CRC {
		return refusal("INVALID_ARGUMENT", "content_crc32c", "does not match"), nil
	}
	unknown := false
	if r.OnPacket != nil {
		v := r.OnPacket(p)
		if err := r.failed(); err != nil {
			return wire.ResultView{}, err
		}
		if v != nil && v.Code != "ACCEPT_UNKNOWN" {
			return *v, nil
		}
		unknown = v != nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.decide(p)
	if unknown && v.Code == "" {
		return refusal("UNKNOWN", "", "term changed"), nil
	}
	return v, nil
}

// decide is PROTOCOL 2.3 in a page.
func (r *Relay) decide(p *wire.Packet) wire.ResultView {
	if !p.HasPosition {
		return r.byID(p)
	}
	key := recordKey{string(p.Producer), string(p.Repo)}
	rec := r.records[key]
	switch {
	case rec == nil && p.Sequence > 1:
		return refusal("UNKNOWN_PRODUCER", "position.producer", "not known")
	case rec == nil || p.Epoch > rec.epoch:
		if p.Sequence != 1 {
			v := refusal("GAP", "position.sequence", "gap")
			v.Expected = 1
			return v
		}
		rec = &record{epoch: p.Epoch, sequences: make(map[uint64]uint64)}
		r.records[key] = rec
	case p.Epoch < rec.epoch:
		return refusal("FENCED", "position.epoch", "an older epoch")
	}
	if p.Sequence > rec.last+1 {
		v := refusal("GAP", "position.sequence", "gap")
		v.Expected = rec.last + 1
		return v
	}
	if p.Sequence <= rec.last {
		return wire.ResultView{Repo: p.Repo, ID: p.ID, Sequence: rec.sequences[p.Sequence], Duplicate: true}
	}
	v := r.byID(p)
	rec.last = p.Sequence
	rec.sequences[p.Sequence] = v.Sequence
	return v
}

func (r *Relay) byID(p *wire.Packet) wire.ResultView {
	v := wire.ResultView{Repo: p.Repo, ID: p.ID}
	if rp := r.repos[string(p.Repo)]; rp != nil && len(p.ID) > 0 {
		if first := rp.ids[string(p.ID)]; first != nil {
			v.Sequence, v.Duplicate = first.Sequence, true
			v.ContentDiffers = string(first.Packet().GetContent()) != string(p.Content)
			return v
		}
	}
	v.Sequence = r.store(string(p.Repo), string(p.ID), string(p.Producer), slices.Clone(p.Raw)).Sequence
	return v
}
