package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/waystation/waystation/cluster/identity"
	"github.com/waystation/waystation/storage"
)

const (
	// maxMessages bounds the messages of a frame.
	maxMessages = 8192
	// scratchBytes is up to which size a message is read into a buffer that is
	// used again; a larger one has a block of its own, in which its payloads stay.
	scratchBytes = 1 << 10
	// readBytes is the size of the read buffer. What is larger is mostly read past
	// it.
	readBytes = 64 << 10
)

func readerOf(conn net.Conn) *bufio.Reader { return bufio.NewReaderSize(conn, readBytes) }

// batch is what a frame has for one group, in a row.
type batch struct {
	group    storage.GroupID
	messages []*pb.Message
}

// frameReader reads frames of messages.
type frameReader struct {
	r       *bufio.Reader
	limit   int // of a message
	scratch [scratchBytes]byte
	head    [headerSize]byte
	batches []batch
}

// serveRaft receives messages until the connection breaks.
func (t *Transport) serveRaft(conn net.Conn, h Hello) {
	fr := &frameReader{r: readerOf(conn), limit: t.cfg.MessageBytes}
	var err error
	for err == nil {
		err = t.serveFrame(conn, fr, h.Node)
	}
	if t.ctx.Err() != nil {
		return
	}
	if errors.Is(err, errFrame) {
		t.metrics.damaged.Inc()
		t.seldom.about("damaged "+h.Node.String()).Warn("connection of a peer closed", "node", h.Node, "from", h.Remote, "err", err)
		return
	}
	t.cfg.Logger.Debug("connection of a peer ended", "node", h.Node, "from", h.Remote, "err", err)
}

func (t *Transport) serveFrame(conn net.Conn, fr *frameReader, from identity.NodeID) error {
	if err := conn.SetDeadline(time.Now().Add(t.cfg.Timeout)); err != nil {
		return err
	}
	h, crc, err := fr.header(t.bodyLimit())
	if err != nil {
		return err
	}
	t.heard(from)
	switch h.kind {
	case frameMessages:
		if h.size > fr.r.Buffered() { // the rest is still under way
			if err := conn.SetDeadline(time.Now().Add(t.cfg.WriteTimeout)); err != nil {
				return err
			}
		}
		batches, err := fr.messages(h, crc)
		if err != nil {
			return err
		}
		t.metrics.framesReceived.Inc()
		t.metrics.bytesReceived.Add(float64(headerSize + h.size))
		t.deliver(from, batches)
	case framePing:
		return t.answerPing(conn, from, fr, h, crc)
	default:
		return fmt.Errorf("%w: kind %d on the raft lane", errFrame, h.kind)
	}
	return nil
}

// bodyLimit is the largest frame of messages that a peer makes.
func (t *Transport) bodyLimit() int { return t.cfg.FrameBytes + t.cfg.MessageBytes + 4 + 8*maxMessages }

func (t *Transport) answerPing(conn net.Conn, from identity.NodeID, fr *frameReader, h header, crc uint32) error {
	if h.size != pulseBody {
		return fmt.Errorf("%w: ping of %d bytes", errFrame, h.size)
	}
	_, body, err := readBody(fr.r, h, crc, fr.scratch[:])
	if err != nil {
		return err
	}
	ping, err := parsePulse(body)
	if err != nil {
		return err
	}
	if p := (*t.peers.Load())[from]; p != nil {
		p.felt(ping, t.now())
	}
	_, err = conn.Write(appendPulse(fr.scratch[:0], framePong, t.pulse(ping.mono)))
	return err
}

// deliver hands messages over, but for those of replicas that live elsewhere.
func (t *Transport) deliver(from identity.NodeID, batches []batch) {
	if t.cfg.Together != nil {
		defer t.cfg.Together()()
	}
	for _, b := range batches {
		kept := b.messages[:0]
		for _, m := range b.messages {
			if t.livesOn(b.group, storage.ReplicaID(m.GetFrom()), from) {
				kept = append(kept, m)
				continue
			}
			t.metrics.dropped.WithLabelValues(dropForeign).Inc()
			t.seldom.about("elsewhere").Warn("message of a replica that lives elsewhere", "group", b.group, "replica", m.GetFrom(), "node", from)
		}
		if len(kept) > 0 {
			t.metrics.messagesReceived.Add(float64(len(kept)))
			t.cfg.Receive(b.group, kept)
		}
	}
}

// livesOn says whether a replica's messages may come from n, and remembers
// where it lives if nobody knows.
func (t *Transport) livesOn(g storage.GroupID, r storage.ReplicaID, n identity.NodeID) bool {
	if at, ok := t.cfg.Resolve(g, r); ok {
		return at == n
	}
	return t.routes.learn(g, r, n)
}

// header reads the next frame's header.
func (f *frameReader) header(limit int) (header, uint32, error) {
	if _, err := io.ReadFull(f.r, f.head[:]); err != nil {
		return header{}, 0, err
	}
	return parseHeader(f.head[:], limit)
}

// messages reads a frame's body. Nothing of it is used unless the checksum is
// right; the batches are valid until the next call, the messages for ever.
func (f *frameReader) messages(h header, crc uint32) ([]batch, error) {
	left := h.size - 4
	if left < 0 {
		return nil, fmt.Errorf("%w: %d bytes of messages", errFrame, h.size)
	}
	word, err := f.read(4, &crc)
	if err != nil {
		return nil, err
	}
	count := int(binary.BigEndian.Uint32(word))
	if count > maxMessages || count*8 > left {
		return nil, fmt.Errorf("%w: %d messages in %d bytes", errFrame, count, left)
	}
	cells, list := make([]messageCell, count), make([]*pb.Message, count)
	clear(f.batches)
	f.batches = f.batches[:0]
	for i := range cells {
		group, n, err := f.message(&cells[i], left, &crc)
		if err != nil {
			return nil, err
		}
		left -= n
		list[i] = &cells[i].m
		f.collect(group, list[:i+1])
	}
	if left != 0 || crc != h.crc {
		return nil, fmt.Errorf("%w: checksum differs, or %d bytes are too many", errFrame, left)
	}
	return f.batches, nil
}

// collect adds the last message of list to the batch of its group.
func (f *frameReader) collect(g storage.GroupID, list []*pb.Message) {
	n := len(list)
	if k := len(f.batches) - 1; k >= 0 && f.batches[k].group == g {
		start := n - 1 - len(f.batches[k].messages)
		f.batches[k].messages = list[start:n:n]
		return
	}
	f.batches = append(f.batches, batch{g, list[n-1 : n : n]})
}

// message reads one message into c and returns how much of the body it was.
func (f *frameReader) message(c *messageCell, left int, crc *uint32) (g storage.GroupID, n int, err error) {
	if left < 8 {
		return 0, 0, fmt.Errorf("%w: %d bytes for a message", errFrame, left)
	}
	word, err := f.read(8, crc)
	if err != nil {
		return 0, 0, err
	}
	g, n = storage.GroupID(binary.BigEndian.Uint32(word)), int(binary.BigEndian.Uint32(word[4:]))
	if n > left-8 || n > f.limit {
		return 0, 0, fmt.Errorf("%w: message of %d bytes", errFrame, n)
	}
	b, err := f.read(n, crc)
	if err != nil {
		return 0, 0, err
	}
	return g, n + 8, decodeMessage(c, b, n > scratchBytes)
}

// read reads n bytes: into scratch if they fit, else into a block of their own.
func (f *frameReader) read(n int, crc *uint32) ([]byte, error) {
	b := f.scratch[:min(n, scratchBytes)]
	if n > scratchBytes {
		b = make([]byte, n)
	}
	if _, err := io.ReadFull(f.r, b); err != nil {
		return nil, noEOF(err)
	}
	*crc = crc32.Update(*crc, castagnoli, b)
	return b, nil
}
