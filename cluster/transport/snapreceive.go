package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/storage"
)

// ErrSnapshot says that the receiver of a snapshot did not take it, and wraps
// its reason as text.
var ErrSnapshot = errors.New("snapshot not taken")

// serveSnapshot receives one snapshot and answers.
func (t *Transport) serveSnapshot(conn net.Conn, h Hello) {
	r := &snapReader{t: t, conn: conn, r: readerOf(conn)}
	quit := make(chan struct{})
	var helper sync.WaitGroup
	helper.Go(func() { r.keepAlive(quit) })
	g, err := t.takeSnapshot(r, h)
	close(quit)
	helper.Wait()
	if err != nil {
		t.metrics.snapshotsFailed.Inc()
		t.cfg.Logger.Warn("snapshot not taken", "group", g, "node", h.Node, "bytes", r.size, "err", err)
		_ = r.frame(frameSnapAnswer, append([]byte{1}, cutText(err.Error())...)) // it may be gone
		return
	}
	t.metrics.snapshotsReceived.Inc()
	t.cfg.Logger.Debug("snapshot taken", "group", g, "node", h.Node, "bytes", r.size)
	_ = r.frame(frameSnapAnswer, []byte{0}) // it may be gone
}

func (t *Transport) takeSnapshot(r *snapReader, h Hello) (storage.GroupID, error) {
	g, m, err := r.header()
	if err != nil {
		return g, err
	}
	if !t.livesOn(g, storage.ReplicaID(m.GetFrom()), h.Node) {
		return g, fmt.Errorf("replica %d does not live on %s", m.GetFrom(), h.Node)
	}
	if err := t.cfg.ReceiveSnapshot(h.Node, g, m, r); err != nil {
		return g, err
	}
	if !r.over {
		// Whoever knows where the body ends may not have looked what follows.
		_, _ = r.Read(make([]byte, 1)) // what went wrong shows in over
	}
	if !r.over {
		return g, fmt.Errorf("body was not read to its end, only %d bytes", r.size)
	}
	return g, nil
}

// snapReader reads a snapshot's body out of its frames.
type snapReader struct {
	t    *Transport
	conn net.Conn
	r    *bufio.Reader

	chunk []byte // what is left of the chunk at hand, a part of buf
	buf   []byte
	size  int64
	crc   uint32
	err   error
	over  bool // all of it came

	mu  sync.Mutex // frames are written by two goroutines
	out []byte
}

func (r *snapReader) header() (storage.GroupID, *pb.Message, error) {
	kind, body, err := r.next(maxSnapHeader)
	if err != nil {
		return 0, nil, fmt.Errorf("read header: %w", err)
	}
	return parseSnapHeader(kind, body)
}

func parseSnapHeader(kind frameKind, body []byte) (storage.GroupID, *pb.Message, error) {
	if kind != frameSnapHeader || len(body) < 4 {
		return 0, nil, fmt.Errorf("%w: kind %d of %d bytes where a snapshot's header should be", errFrame, kind, len(body))
	}
	g, m := storage.GroupID(binary.BigEndian.Uint32(body)), new(pb.Message)
	if err := proto.Unmarshal(body[4:], m); err != nil {
		return g, nil, fmt.Errorf("%w: header: %w", errFrame, err)
	}
	if m.GetType() != pb.MsgSnap {
		return g, nil, fmt.Errorf("%w: header is a %s", errFrame, m.GetType())
	}
	return g, m, nil
}

// Read returns io.EOF only after all of the body came undamaged.
func (r *snapReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, r.err
	}
	for len(r.chunk) == 0 && r.err == nil {
		r.err = r.fill()
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(b, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

func (r *snapReader) fill() error {
	kind, body, err := r.next(chunkBytes)
	if err != nil {
		return err
	}
	switch kind {
	case frameSnapChunk:
		r.chunk = body
		r.size += int64(len(body))
		r.crc = crc32.Update(r.crc, castagnoli, body)
		return nil
	case frameSnapEnd:
		return r.end(body)
	case frameSnapAbort:
		return fmt.Errorf("sender gave up: %s", body)
	default:
		return fmt.Errorf("%w: kind %d on the snapshot lane", errFrame, kind)
	}
}

func (r *snapReader) end(body []byte) error {
	if len(body) != 12 || binary.BigEndian.Uint64(body) != uint64(r.size) || binary.BigEndian.Uint32(body[8:]) != r.crc {
		return fmt.Errorf("%w: body ends after %d bytes with another checksum or size: %x", errFrame, r.size, body)
	}
	r.over = true
	return io.EOF
}

// next returns the next frame that says something.
func (r *snapReader) next(limit int) (frameKind, []byte, error) {
	for {
		if err := r.conn.SetReadDeadline(time.Now().Add(r.t.cfg.Timeout)); err != nil {
			return 0, nil, err
		}
		kind, body, err := readFrame(r.r, r.buf, limit)
		if err != nil {
			return 0, nil, r.t.reason(noEOF(err))
		}
		if cap(body) > cap(r.buf) {
			r.buf = body[:cap(body)]
		}
		if kind != frameWorking {
			return kind, body, nil
		}
	}
}

// keepAlive tells the sender that the receiver lives, however long it takes to
// store what came.
func (r *snapReader) keepAlive(quit <-chan struct{}) {
	tick := time.NewTicker(r.t.cfg.Keepalive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if r.frame(frameWorking, nil) != nil {
				return // the reader meets the same error
			}
		case <-quit:
			return
		}
	}
}

func (r *snapReader) frame(kind frameKind, body []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out = appendFrame(r.out[:0], kind, body...)
	if err := r.conn.SetWriteDeadline(time.Now().Add(r.t.cfg.WriteTimeout)); err != nil {
		return err
	}
	_, err := r.conn.Write(r.out)
	return err
}
