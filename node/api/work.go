package api

import (
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/codec"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

const (
	// unsettled bounds the settlements and renewals of one stream that are not
	// answered: who does not read is not read from.
	unsettled = 16_384
	// takeAtOnce bounds the deliveries of one message.
	takeAtOnce = 1024
	// readyPoll is how often a session is asked whether every partition has said
	// what it has, until it has.
	readyPoll = 20 * time.Millisecond
)

// workStream is one Work: a reader that carries out what the worker says, and the
// handler's goroutine that sends deliveries and answers.
type workStream struct {
	calls   *Calls
	stream  grpc.ServerStream
	session Session

	mu          sync.Mutex
	settlements []*waystationv1.SettlementResult // to be sent
	renewals    []*waystationv1.RenewResult      // to be sent
	waiting     int                              // settlements and renewals that are not answered
	unsent      int                              // answers that are not sent
	ended       bool                             // the worker says no more
	drained     bool                             // and it takes no more
	cause       error                            // why; io.EOF when it is done
	closed      bool

	wake chan struct{} // something for the handler, one place
	room chan struct{} // something was sent, one place
}

func newWorkStream(c *Calls, stream grpc.ServerStream) *workStream {
	return &workStream{calls: c, stream: stream, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// run serves the stream. wg counts its reader.
func (w *workStream) run(wg *sync.WaitGroup) error {
	first, err := w.open()
	if err != nil {
		return err
	}
	defer w.session.Close()
	defer w.close()
	wg.Add(1)
	go func() {
		defer wg.Done()
		w.end(w.read(first))
	}()
	return w.serve()
}

// open reads the first request, which says for which group the worker works.
func (w *workStream) open() (*waystationv1.WorkRequest, error) {
	first := new(waystationv1.WorkRequest)
	if err := receive(w.stream, first); err != nil {
		return nil, err
	}
	o := first.GetOpen()
	if o == nil {
		return nil, invalid("open", "is missing: the first request of a stream opens it")
	}
	credit := o.GetCredit()
	if c := first.GetCredit(); c != 0 {
		credit = c
	}
	session, err := w.calls.delivery.Open(w.stream.Context(), actors.SessionConfig{
		Group: o.GetGroup(), Worker: o.GetWorker(), LeaseMs: o.GetLeaseMs(), MaxBatch: o.GetMaxBatch(), Credit: credit,
	})
	if err != nil {
		return nil, err
	}
	w.session = session
	return first, nil
}

// serve sends until the worker is done, the session ends or the stream breaks.
func (w *workStream) serve() error {
	draining := w.calls.health.Draining()
	drained, told := false, false
	look := time.NewTicker(readyPoll)
	defer look.Stop()
	for {
		pending := w.session.Pending() // before Take: what comes after it is not counted as looked for
		sent, err := w.send()
		if err != nil {
			return err
		}
		if !told && !pending {
			told = true
			look.Stop()
			if err := w.stream.SendMsg(&waystationv1.WorkResponse{Ready: true}); err != nil {
				return err
			}
		}
		if over, err := w.over(drained); over {
			return err
		}
		if sent {
			continue
		}
		select {
		case <-w.session.Ready():
		case <-w.wake:
		case <-look.C:
		case <-w.session.Done():
			return w.session.Err()
		case <-draining:
			draining, drained = nil, true
			w.session.Drain()
			if err := w.stream.SendMsg(&waystationv1.WorkResponse{Draining: true}); err != nil {
				return err
			}
		case <-w.stream.Context().Done():
			return w.stream.Context().Err()
		}
	}
}

// over says whether nothing more is to be done: the worker is done and was
// answered, or the node drains and the worker holds nothing.
func (w *workStream) over(drained bool) (bool, error) {
	w.mu.Lock()
	ended, cause, idle, left := w.ended, w.cause, w.waiting+w.unsent == 0, w.drained
	w.mu.Unlock()
	switch {
	case !idle:
		return false, nil
	case ended && errors.Is(cause, io.EOF):
		if left { // it drained and went: what it has not settled it will never run
			w.session.Release()
		}
		return true, nil
	case ended:
		return true, cause
	case drained && w.session.Held() == 0:
		return true, errDraining
	}
	return false, nil
}

// send sends what there is, and says whether there was anything.
func (w *workStream) send() (bool, error) {
	w.mu.Lock()
	answers, n, ended := &waystationv1.WorkResponse{Settlements: w.settlements, Renewals: w.renewals}, w.unsent, w.ended
	w.settlements, w.renewals = nil, nil
	w.mu.Unlock()
	var taken []actors.Delivery
	if !ended { // who says no more cannot settle either
		taken = w.session.Take(takeAtOnce, nil)
	}
	if len(taken) == 0 && n == 0 {
		return false, nil
	}
	message, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, headSize(taken)+64*n), answers)
	if err != nil {
		return false, err
	}
	if err := w.stream.SendMsg(deliveries(message, taken)); err != nil {
		return false, err
	}
	w.mu.Lock()
	w.unsent -= n
	w.mu.Unlock()
	signal(w.room)
	return true, nil
}

// asPart is the size from which a packet is sent from where it lies, and not
// copied into the message.
const asPart = 4 << 10

// headSize is room for a message's deliveries, without the packets that are parts.
func headSize(list []actors.Delivery) (size int) {
	for i := range list {
		size += 96
		if n := len(list[i].Packet); n < asPart {
			size += n
		}
	}
	return size
}

// deliveries is the message that begins with b and goes on with list.
func deliveries(b []byte, list []actors.Delivery) *codec.Raw {
	var parts [][]byte
	begin := 0
	for i := range list {
		d := &list[i]
		v := deliveryView(d)
		if len(d.Packet) < asPart {
			b = wire.AppendDelivery(b, &v)
			continue
		}
		b = wire.AppendDeliveryHead(b, &v)
		parts = append(parts, b[begin:], d.Packet)
		begin = len(b)
	}
	if parts == nil {
		return &codec.Raw{Bytes: b}
	}
	return &codec.Raw{Bytes: parts[0], Parts: append(parts[1:], b[begin:])}
}

func deliveriesSize(list []actors.Delivery) (size int) {
	for i := range list {
		size += len(list[i].Packet) + 96
	}
	return size
}

func deliveryView(d *actors.Delivery) wire.DeliveryView {
	return wire.DeliveryView{
		Packet: d.Packet, Sequence: uint64(d.Seq), LeaseToken: uint64(d.Token), Attempt: d.Attempt, LeaseMs: d.LeaseMs,
		LeaseExpiresMs: d.ExpiresMs, AcceptedMs: d.AcceptedMs, Redelivered: d.Redelivered, RedriveOf: uint64(d.RedriveOf),
	}
}

// read carries out request after request.
func (w *workStream) read(req *waystationv1.WorkRequest) error {
	for {
		if err := w.carryOut(req); err != nil {
			return err
		}
		req = new(waystationv1.WorkRequest)
		if err := receive(w.stream, req); err != nil {
			return err
		}
		if req.GetOpen() != nil {
			return invalid("open", "is there twice: it belongs into the first request alone")
		}
	}
}

func (w *workStream) carryOut(req *waystationv1.WorkRequest) error {
	if !w.reserve(len(req.GetSettlements()) + len(req.GetRenewals())) {
		return io.EOF
	}
	if list := settlements(req.GetSettlements()); len(list) > 0 {
		w.session.Settle(list, w.settled)
	}
	if list := leases(req.GetRenewals()); len(list) > 0 {
		w.session.Renew(list, w.renewed)
	}
	if credit := req.GetCredit(); credit > 0 && req.GetOpen() == nil {
		w.session.SetCredit(credit)
	}
	if req.GetDrain() {
		w.mu.Lock()
		w.drained = true
		w.mu.Unlock()
		w.session.Drain()
	}
	return nil
}

// reserve waits until n more answers may be outstanding; false when the stream
// is to end.
func (w *workStream) reserve(n int) bool {
	for {
		w.mu.Lock()
		used := w.waiting + w.unsent
		fits := used == 0 || used+n <= unsettled
		if fits && !w.closed {
			w.waiting += n
		}
		closed := w.closed
		w.mu.Unlock()
		if closed || fits {
			return !closed
		}
		select {
		case <-w.room:
		case <-w.stream.Context().Done():
			return false
		}
	}
}

func (w *workStream) settled(outcomes []actors.SettlementOutcome) {
	w.mu.Lock()
	for i := range outcomes {
		w.settlements = append(w.settlements, settlementResult(&outcomes[i]))
	}
	w.answered(len(outcomes))
}

func (w *workStream) renewed(outcomes []actors.RenewOutcome) {
	w.mu.Lock()
	for i := range outcomes {
		w.renewals = append(w.renewals, renewResult(&outcomes[i]))
	}
	w.answered(len(outcomes))
}

// answered ends what settled and renewed began: it unlocks.
func (w *workStream) answered(n int) {
	w.waiting -= n
	w.unsent += n
	w.mu.Unlock()
	signal(w.wake)
}

func (w *workStream) end(cause error) {
	w.mu.Lock()
	w.ended, w.cause = true, cause
	w.mu.Unlock()
	signal(w.wake)
}

func (w *workStream) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	signal(w.room)
}

func settlements(list []*waystationv1.Settlement) []actors.Settlement {
	out := make([]actors.Settlement, len(list))
	for i, s := range list {
		out[i] = actors.Settlement{
			Repo: s.GetRepoId(), Seq: repository.Seq(s.GetSequence()), Token: repository.Token(s.GetLeaseToken()),
			Outcome: outcomeCode(s.GetOutcome()), Error: s.GetError(), Result: s.GetResult(), RetryAfterMs: s.GetRetryAfterMs(),
		}
	}
	return out
}

// outcomeCode keeps what is out of range out of range.
func outcomeCode(o waystationv1.Outcome) actors.Outcome {
	if o < 0 || o > waystationv1.Outcome_DEAD {
		return 0
	}
	return actors.Outcome(o)
}

func leases(list []*waystationv1.LeaseRef) []actors.LeaseRef {
	out := make([]actors.LeaseRef, len(list))
	for i, l := range list {
		out[i] = actors.LeaseRef{Repo: l.GetRepoId(), Token: repository.Token(l.GetLeaseToken())}
	}
	return out
}

func settlementResult(o *actors.SettlementOutcome) *waystationv1.SettlementResult {
	r := &waystationv1.SettlementResult{RepoId: o.Repo, Sequence: uint64(o.Seq)}
	if o.Refusal != nil {
		r.Error = refused(o.Refusal).proto()
	}
	return r
}

func renewResult(o *actors.RenewOutcome) *waystationv1.RenewResult {
	r := &waystationv1.RenewResult{RepoId: o.Repo, LeaseToken: uint64(o.Token)}
	if o.Refusal != nil {
		r.Error = refused(o.Refusal).proto()
		return r
	}
	r.LeaseExpiresAt = timestamppb.New(msTime(o.ExpiresMs))
	return r
}
