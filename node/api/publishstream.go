package api

import (
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/messages/codec"
	"github.com/waystation/waystation/messages/wire"
)

const (
	// unanswered bounds the packets of one stream that were taken in and whose
	// answers the client has not been sent: who does not read is not read from.
	unanswered = 16_384
	// answerChunk is about the size of one message of answers. Clients of other
	// languages take 4 MiB at most.
	answerChunk = 64 << 10
)

// publishStream is one PublishStream: a reader that offers frames, the handler's
// goroutine that sends answers, and in between what is unanswered.
type publishStream struct {
	calls  *Calls
	stream grpc.ServerStream
	buffer *sync.Pool // of *[]byte, shared by all streams

	mu      sync.Mutex
	full    [][]byte // messages ready to be sent
	last    []byte   // the message that is being filled
	waiting int      // packets that are offered and not answered
	unsent  int      // answers that are not sent
	ended   bool     // the reader will offer no more
	cause   error    // why; io.EOF when the client is done
	closed  bool     // the handler is gone: answers go nowhere

	wake chan struct{} // something for the handler, one place
	room chan struct{} // something was sent, one place
	stop chan struct{} // closed: offer no more
}

func newPublishStream(c *Calls, stream grpc.ServerStream, buffer *sync.Pool) *publishStream {
	return &publishStream{
		calls: c, stream: stream, buffer: buffer,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), stop: make(chan struct{}),
	}
}

// run serves the stream. wg counts its reader, which ends soon after run: gRPC
// cancels what it blocks in.
func (p *publishStream) run(wg *sync.WaitGroup) error {
	wg.Add(1)
	go func() {
		defer wg.Done()
		p.end(p.read())
	}()
	defer p.close()
	draining := p.calls.health.Draining()
	rerouted, err := p.tellRoutes()
	if err != nil {
		return err
	}
	for {
		chunks, answers, cause, done := p.take()
		for _, chunk := range chunks {
			if err := p.send(chunk); err != nil {
				return err
			}
		}
		p.sent(answers)
		if done && len(chunks) == 0 {
			return streamEnd(cause)
		}
		if len(chunks) > 0 {
			continue
		}
		select {
		case <-p.wake:
		case <-rerouted:
			if rerouted, err = p.tellRoutes(); err != nil {
				return err
			}
		case <-draining:
			// What was offered is answered still; what comes now is the next node's.
			draining = nil
			p.end(errDraining)
			close(p.stop)
		case <-p.stream.Context().Done():
			return p.stream.Context().Err()
		}
	}
}

// tellRoutes sends who leads what, and returns what is closed when that changes:
// nil where nothing is forwarded.
func (p *publishStream) tellRoutes() (changed <-chan struct{}, err error) {
	r, ok := p.calls.relay.(Routed)
	if !ok {
		return nil, nil
	}
	message, changed := r.Routes()
	if message == nil {
		return changed, nil
	}
	return changed, p.stream.SendMsg(&codec.Raw{Bytes: message})
}

func streamEnd(cause error) error {
	if errors.Is(cause, io.EOF) {
		return nil
	}
	return grpcError(cause)
}

// read offers frame after frame until there are no more.
func (p *publishStream) read() error {
	var next uint64
	for {
		f := new(codec.PublishFrame)
		if err := receive(p.stream, f); err != nil {
			return err
		}
		n := len(f.Packets)
		if n == 0 || !p.reserve(n) {
			f.Free()
			if n > 0 {
				return errDraining
			}
			continue
		}
		p.calls.relay.Offer(&actors.Frame{Packets: f.Packets, First: next, Bytes: f.Bytes(), Release: f.Free}, p)
		next += uint64(n)
	}
}

// reserve waits until n more packets may be unanswered. It answers false when
// the stream is to end.
func (p *publishStream) reserve(n int) bool {
	for {
		p.mu.Lock()
		over := p.ended || p.closed
		fits := p.waiting+p.unsent == 0 || p.waiting+p.unsent+n <= unanswered
		if !over && fits {
			p.waiting += n
		}
		p.mu.Unlock()
		if over || fits {
			return !over
		}
		select {
		case <-p.room:
		case <-p.stop:
		case <-p.stream.Context().Done():
			return false
		}
	}
}

// Results implements actors.Sink.
func (p *publishStream) Results(rs []actors.PublishResult) {
	p.mu.Lock()
	p.waiting -= len(rs)
	if !p.closed {
		p.unsent += len(rs)
		for i := range rs {
			p.append(&rs[i])
		}
	}
	p.mu.Unlock()
	signal(p.wake)
}

func (p *publishStream) append(r *actors.PublishResult) {
	if p.last == nil {
		p.last = p.empty()
	}
	v := wire.ResultView{Repo: r.Repo, ID: r.ID, Sequence: uint64(r.Seq), Duplicate: r.Duplicate, ContentDiffers: r.ContentDiffers}
	if f := r.Refusal; f != nil {
		v = wire.ResultView{
			Code: f.Code, Field: f.Field, Message: f.Message, RetryAfterMs: f.RetryAfter.Milliseconds(), Expected: f.Expected,
			Leader: f.Leader,
		}
	}
	p.last = wire.AppendResult(p.last, r.Index, &v)
	if len(p.last) >= answerChunk {
		p.full = append(p.full, p.last)
		p.last = nil
	}
}

func (p *publishStream) empty() []byte {
	if b, ok := p.buffer.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, answerChunk+answerChunk/8)
}

// take returns what is to be sent, how many answers that is, and whether nothing
// will come after it.
func (p *publishStream) take() (chunks [][]byte, answers int, cause error, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	chunks = p.full
	if len(p.last) > 0 {
		chunks = append(chunks, p.last)
	}
	p.full, p.last = nil, nil
	return chunks, p.unsent, p.cause, p.ended && p.waiting == 0
}

func (p *publishStream) send(chunk []byte) error {
	// gRPC may read the bytes after SendMsg has returned: they go back when it
	// has let go of them.
	return p.stream.SendMsg(&codec.Raw{Bytes: chunk, Release: func() { p.buffer.Put(&chunk) }})
}

// sent makes room for the packets whose answers are on their way.
func (p *publishStream) sent(answers int) {
	if answers == 0 {
		return
	}
	p.mu.Lock()
	p.unsent -= answers
	p.mu.Unlock()
	signal(p.room)
}

func (p *publishStream) end(cause error) {
	p.mu.Lock()
	if !p.ended {
		p.ended, p.cause = true, cause
	}
	p.mu.Unlock()
	signal(p.wake)
}

func (p *publishStream) close() {
	p.mu.Lock()
	p.closed = true
	p.full, p.last = nil, nil
	p.mu.Unlock()
	signal(p.room)
}

// signal wakes who waits on a channel of one place.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
