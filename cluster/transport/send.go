package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// sender writes one connection's frames.
type sender struct {
	p      *peer
	conn   net.Conn
	enc    encoder
	vec    net.Buffers
	flat   []byte // for connections that cannot write a vector
	items  []item
	ping   *time.Timer
	pinged time.Duration // monotonic, when the last ping went
	broken chan error    // from the reader of pongs
}

func newSender(p *peer, conn net.Conn) *sender {
	return &sender{
		p: p, conn: conn,
		ping: time.NewTimer(p.t.cfg.Keepalive), broken: make(chan error, 1),
	}
}

// run writes until the connection breaks or the peer is given up.
func (s *sender) run() error {
	stop := context.AfterFunc(s.p.ctx, func() { s.p.t.hang(s.conn) })
	defer stop()
	var reader sync.WaitGroup
	reader.Go(func() { s.broken <- s.readPongs() })
	err := s.pump()
	s.ping.Stop()
	s.p.t.hang(s.conn)
	reader.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = <-s.broken // the reader closed it, and knows why
	}
	return err
}

func (s *sender) pump() error {
	if err := s.sendPing(); err != nil {
		return err
	}
	for {
		if err := s.drain(); err != nil {
			return err
		}
		if err := s.wait(); err != nil {
			return err
		}
	}
}

// wait returns once there is something to write.
func (s *sender) wait() error {
	select {
	case <-s.p.out.bell:
		return nil
	case <-s.ping.C:
		return s.sendPing()
	case err := <-s.broken:
		return s.brokenBy(err)
	case <-s.p.ctx.Done():
		return s.p.ctx.Err()
	}
}

// brokenBy keeps the error for whoever asks again.
func (s *sender) brokenBy(err error) error {
	s.broken <- err
	return err
}

// drain writes frames until nothing waits. A ping that is due goes between two
// of them.
func (s *sender) drain() error {
	for more := true; more; {
		s.items, more = s.p.out.take(s.items[:0], s.p.t.cfg.FrameBytes)
		if len(s.items) == 0 {
			return nil
		}
		err := s.writeItems()
		clear(s.items)
		if err != nil {
			return err
		}
		select {
		case <-s.ping.C:
			if err := s.sendPing(); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// writeItems writes all items as one frame.
func (s *sender) writeItems() error {
	s.enc.begin()
	for _, it := range s.items {
		if err := s.enc.add(it.group, it.m, it.size); err != nil {
			s.p.dropAll(s.items, dropBroken)
			return err
		}
	}
	pieces, size := s.enc.end(), s.enc.size
	if t := s.p.t; t.now()-s.pinged >= t.cfg.Keepalive {
		// Along with a frame it wakes nobody for itself.
		pieces = append(pieces, s.pulse())
		size += headerSize + pulseBody
	}
	if err := s.write(pieces, size); err != nil {
		s.p.dropAll(s.items, dropBroken)
		return fmt.Errorf("write %d messages: %w", len(s.items), err)
	}
	m := s.p.t.metrics
	m.framesSent.Inc()
	m.messagesSent.Add(float64(len(s.items)))
	m.bytesSent.Add(float64(size))
	return nil
}

// write writes pieces in one go: as a vector where the system can.
func (s *sender) write(pieces [][]byte, size int) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.p.t.cfg.WriteTimeout)); err != nil {
		return err
	}
	if _, ok := s.conn.(*net.TCPConn); ok {
		s.vec = pieces
		_, err := s.vec.WriteTo(s.conn)
		return err
	}
	if cap(s.flat) < size {
		s.flat = make([]byte, 0, size)
	}
	s.flat = s.flat[:0]
	for _, b := range pieces {
		s.flat = append(s.flat, b...)
	}
	_, err := s.conn.Write(s.flat)
	return err
}

func (s *sender) sendPing() error {
	return s.write([][]byte{s.pulse()}, headerSize+pulseBody)
}

// pulse is a ping to be sent now. The next one has time until a frame goes after
// Keepalive, and a little longer where none does.
func (s *sender) pulse() []byte {
	t := s.p.t
	s.pinged = t.now()
	s.ping.Reset(t.cfg.Keepalive + t.cfg.Keepalive/4)
	return appendPulse(nil, framePing, t.pulse(s.pinged))
}

// readPongs takes the peer's answers until the connection breaks, which it
// makes sure of: the writer may be in the midst of a write.
func (s *sender) readPongs() error {
	defer s.p.t.hang(s.conn)
	t := s.p.t
	buf := make([]byte, pulseBody)
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(t.cfg.Timeout)); err != nil {
			return err
		}
		kind, body, err := readFrame(s.conn, buf, pulseBody)
		if err != nil {
			return fmt.Errorf("wait for pong: %w", err)
		}
		pong, err := parsePulse(body)
		if err != nil || kind != framePong {
			return fmt.Errorf("%w: kind %d where a pong should be", errFrame, kind)
		}
		now := t.now()
		s.p.felt(pong, now)
		s.p.clock.add(pong.mono, now, pong.wall)
		t.metrics.roundTrip.Observe((now - pong.mono).Seconds())
	}
}
