package transport

import (
	"context"
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

// chunkBytes is the size of a snapshot's chunks.
const chunkBytes = 128 << 10

// maxSnapHeader bounds a snapshot's header, the message without its body.
const maxSnapHeader = 4 << 20

// SendSnapshot sends a snapshot to the replica that m is for, beside all other
// messages and one at a time for each peer; more wait. It does not block. body
// is called from another goroutine and writes the snapshot; it should end with
// the writer's error if there is one. done is called exactly once: with nil
// once the receiver has taken all of it, or with what went wrong. It may be
// called before SendSnapshot returns, and must not block.
func (t *Transport) SendSnapshot(g storage.GroupID, m *pb.Message, body func(io.Writer) error, done func(error)) {
	p := t.peerOf(g, storage.ReplicaID(m.GetTo()))
	if p == nil {
		err := fmt.Errorf("send snapshot of group %d: replica %d lives nowhere", g, m.GetTo())
		if t.ctx.Err() != nil {
			err = fmt.Errorf("send snapshot of group %d: %w", g, ErrStopped)
		}
		done(err)
		return
	}
	if err := p.snaps.push(snapJob{group: g, m: m, body: body, done: done}); err != nil {
		done(fmt.Errorf("send snapshot of group %d: %w", g, err))
	}
}

// snapshotLoop sends what waits, one after the other.
func (p *peer) snapshotLoop() {
	for {
		select {
		case <-p.snaps.bell:
		case <-p.ctx.Done():
			return
		}
		for p.ctx.Err() == nil {
			j, ok := p.snaps.pop()
			if !ok {
				break
			}
			p.sendSnapshot(j)
		}
	}
}

func (p *peer) sendSnapshot(j snapJob) {
	began := time.Now()
	bytes, err := p.trySnapshot(j)
	if err != nil {
		p.t.metrics.snapshotsFailed.Inc()
		err = p.t.reason(fmt.Errorf("send snapshot of group %d to %s: %w", j.group, p.node, err))
		p.t.cfg.Logger.Warn("snapshot not sent", "group", j.group, "node", p.node, "bytes", bytes, "err", err)
	} else {
		p.t.metrics.snapshotsSent.Inc()
		p.t.cfg.Logger.Debug("snapshot sent", "group", j.group, "node", p.node, "bytes", bytes, "took", time.Since(began))
	}
	j.done(err)
}

func (p *peer) trySnapshot(j snapJob) (bytes int64, err error) {
	head := binary.BigEndian.AppendUint32(nil, uint32(j.group))
	if head, err = (proto.MarshalOptions{}).MarshalAppend(head, j.m); err != nil {
		return 0, fmt.Errorf("marshal header: %w", err)
	}
	if len(head) > maxSnapHeader {
		return 0, fmt.Errorf("header of %d bytes, %d are the most", len(head), maxSnapHeader)
	}
	conn, _, err := p.t.dial(p.ctx, p.node, LaneSnapshot)
	if err != nil {
		return 0, err
	}
	w := newSnapWriter(p, conn)
	defer w.close()
	err = w.send(head, j.body)
	return w.size, w.outcome(err)
}

// snapWriter writes a snapshot's body in chunks.
type snapWriter struct {
	p      *peer
	conn   net.Conn
	ctx    context.Context // done once it makes no sense to go on
	cancel context.CancelFunc

	helpers sync.WaitGroup
	answer  chan error

	mu  sync.Mutex // frames are written by two goroutines
	buf []byte

	chunk []byte
	size  int64
	crc   uint32
	err   error // of the connection
	// failed is the body's own error.
	failed error
}

func newSnapWriter(p *peer, conn net.Conn) *snapWriter {
	w := &snapWriter{p: p, conn: conn, answer: make(chan error, 1), chunk: make([]byte, 0, chunkBytes)}
	w.ctx, w.cancel = context.WithCancel(p.ctx)
	w.helpers.Go(w.readAnswer)
	w.helpers.Go(w.keepAlive)
	w.helpers.Go(w.watch)
	return w
}

func (w *snapWriter) close() {
	w.cancel()
	w.helpers.Wait()
}

// watch closes the connection once there is no sense in going on: a write may
// block until then.
func (w *snapWriter) watch() {
	<-w.ctx.Done()
	w.p.t.hang(w.conn)
}

// outcome is the receiver's word if there is one: of a broken pipe and the
// reason that the receiver gave before it closed, the latter is meant.
func (w *snapWriter) outcome(sent error) error {
	if sent != nil {
		giveUp := time.AfterFunc(w.p.t.cfg.Timeout, w.cancel)
		defer giveUp.Stop()
	}
	answer := <-w.answer
	if sent == nil || errors.Is(answer, ErrSnapshot) && w.failed == nil {
		return answer
	}
	return sent
}

// send writes header, body and end, or says that there will be no end.
func (w *snapWriter) send(head []byte, body func(io.Writer) error) error {
	if err := w.frame(frameSnapHeader, head); err != nil {
		return err
	}
	err := body(w)
	if err == nil {
		err = w.flush()
	}
	if w.err != nil {
		return w.err
	}
	if err != nil {
		w.failed = err
		return errors.Join(err, w.frame(frameSnapAbort, []byte(cutText(err.Error()))))
	}
	end := binary.BigEndian.AppendUint64(nil, uint64(w.size))
	return w.frame(frameSnapEnd, binary.BigEndian.AppendUint32(end, w.crc))
}

// Write takes bytes of the body. It blocks for as long as the rate, the network
// or the receiver makes it.
func (w *snapWriter) Write(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if w.err != nil {
			return n, w.err
		}
		take := min(len(b)-n, chunkBytes-len(w.chunk))
		w.chunk = append(w.chunk, b[n:n+take]...)
		n += take
		if len(w.chunk) == chunkBytes {
			w.err = w.flush()
		}
	}
	return n, w.err
}

func (w *snapWriter) flush() error {
	if len(w.chunk) == 0 {
		return w.err
	}
	if err := w.p.t.pace.wait(w.ctx, len(w.chunk)); err != nil {
		w.err = err
		return err
	}
	w.crc = crc32.Update(w.crc, castagnoli, w.chunk)
	w.size += int64(len(w.chunk))
	w.p.t.metrics.snapshotBytes.Add(float64(len(w.chunk)))
	w.err = w.frame(frameSnapChunk, w.chunk)
	w.chunk = w.chunk[:0]
	return w.err
}

func (w *snapWriter) frame(kind frameKind, body []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = appendFrame(w.buf[:0], kind, body...)
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.p.t.cfg.SnapshotStall)); err != nil {
		return err
	}
	_, err := w.conn.Write(w.buf)
	return err
}

// keepAlive tells the receiver that the sender lives while its body function
// has nothing to write.
func (w *snapWriter) keepAlive() {
	tick := time.NewTicker(w.p.t.cfg.Keepalive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if w.frame(frameWorking, nil) != nil {
				return // the writer meets the same error
			}
		case <-w.ctx.Done():
			return
		}
	}
}

// readAnswer waits for the receiver's word. Until it comes the receiver says
// now and then that it lives; if not, the connection is closed.
func (w *snapWriter) readAnswer() {
	err := w.awaitAnswer()
	w.answer <- err
	if err != nil {
		w.cancel() // ends a write
	}
}

func (w *snapWriter) awaitAnswer() error {
	buf := make([]byte, maxText+1)
	for {
		if err := w.conn.SetReadDeadline(time.Now().Add(w.p.t.cfg.Timeout)); err != nil {
			return err
		}
		kind, body, err := readFrame(w.conn, buf, maxText+1)
		switch {
		case err != nil:
			return fmt.Errorf("wait for the answer: %w", noEOF(err))
		case kind == frameWorking:
		case kind == frameSnapAnswer && len(body) > 0 && body[0] == 0:
			return nil
		case kind == frameSnapAnswer && len(body) > 0:
			return fmt.Errorf("%w: %s", ErrSnapshot, body[1:])
		default:
			return fmt.Errorf("%w: kind %d where an answer should be", errFrame, kind)
		}
	}
}
