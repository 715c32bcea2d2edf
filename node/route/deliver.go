package route

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	"github.com/waystation/waystation/messages/codec"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

const (
	// takeAtOnce bounds the deliveries of one message.
	takeAtOnce = 1024
	// unanswered bounds the settlements and renewals of one stream whose answers are
	// not sent: who does not read is not read from.
	unanswered = 32_768
)

// deliverStream is one Deliver: a session of this node for a worker that is
// connected to another one.
type deliverStream struct {
	stream  grpc.ServerStream
	session subSession

	mu       sync.Mutex
	settled  []*peerv1.DeliverOutcome // to be sent
	renewed  []*peerv1.DeliverOutcome // to be sent
	waiting  int                      // not answered, or not sent
	finished bool                     // the reader has ended
	cause    error

	wake chan struct{}
	room chan struct{}
}

// deliver serves one stream.
func (v *Service) deliver(_ any, stream grpc.ServerStream) error {
	var first peerv1.DeliverRequest
	if err := receive(stream, &first); err != nil {
		return err
	}
	o := first.GetOpen()
	if o == nil {
		return status.Error(codes.InvalidArgument, "open: is missing")
	}
	session, err := v.r.openLocal(stream.Context(), actors.SessionConfig{
		Group: o.GetGroup(), Worker: o.GetWorker(), LeaseMs: o.GetLeaseMs(), MaxBatch: o.GetMaxBatch(), Anonymous: o.GetAnonymous(), Ask: true,
		Existing: true,
	})
	if err != nil {
		return statusOf(err)
	}
	defer session.Close()
	opened := &peerv1.DeliverResponse{Opened: &peerv1.DeliverOpened{Redelivered: uint32(session.Redelivered())}}
	if err := stream.SendMsg(opened); err != nil {
		return err
	}
	d := &deliverStream{stream: stream, session: session, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	v.readers.Add(1)
	go func() {
		defer v.readers.Done()
		d.finish(d.read())
	}()
	return d.serve()
}

func receive(stream grpc.ServerStream, m proto.Message) error {
	if err := stream.RecvMsg(m); err != nil {
		return err
	}
	if err := codec.DecodeError(m); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// statusOf is a session's error with its refusal in the details.
func statusOf(err error) error {
	var r *actors.Refusal
	if !errors.As(err, &r) {
		return status.FromContextError(err).Err()
	}
	st := status.New(codes.Unavailable, r.Error())
	e := &waystationv1.Error{Code: r.Code, Field: r.Field, Message: r.Message, RetryAfterMs: r.RetryAfter.Milliseconds()}
	if with, err := st.WithDetails(e); err == nil {
		st = with
	}
	return st.Err()
}

// serve sends until the stream or the session ends.
func (d *deliverStream) serve() error {
	for {
		sent, err := d.send()
		if err != nil {
			return err
		}
		if sent {
			continue
		}
		d.mu.Lock()
		over, cause := d.finished && d.waiting == 0, d.cause
		if d.finished && !errors.Is(cause, io.EOF) {
			over = true // nobody reads the answers
		}
		d.mu.Unlock()
		if over {
			if errors.Is(cause, io.EOF) {
				return nil
			}
			return cause
		}
		select {
		case <-d.session.Ready():
		case <-d.wake:
		case <-d.session.Done():
			return ended(d.session.Err())
		case <-d.stream.Context().Done():
			return d.stream.Context().Err()
		}
	}
}

// ended is why a session ended that its stream did not end: ABORTED when another
// one was opened under its name.
func ended(err error) error {
	var r *actors.Refusal
	if errors.As(err, &r) && r.Field == "worker" {
		return status.Error(codes.Aborted, r.Error())
	}
	return statusOf(err)
}

// send sends what there is, and says whether there was anything.
func (d *deliverStream) send() (bool, error) {
	d.mu.Lock()
	a := &peerv1.DeliverResponse{Settlements: d.settled, Renewals: d.renewed}
	n := len(d.settled) + len(d.renewed)
	d.settled, d.renewed = nil, nil
	finished := d.finished
	d.mu.Unlock()
	var list []actors.Delivery
	if !finished {
		list = d.session.Take(takeAtOnce, nil)
		returned, ready := d.session.Notes()
		a.Returned, a.Ready = uint32(returned), ready
	}
	if n == 0 && len(list) == 0 && a.Returned == 0 && !a.Ready {
		return false, nil
	}
	size := proto.Size(a)
	for i := range list {
		size += len(list[i].Packet) + 96
	}
	b, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, size), a)
	if err != nil {
		return false, err
	}
	for i := range list {
		x := &list[i]
		b = wire.AppendDelivery(b, &wire.DeliveryView{
			Packet: x.Packet, Sequence: uint64(x.Seq), LeaseToken: uint64(x.Token), Attempt: x.Attempt, LeaseMs: x.LeaseMs,
			LeaseExpiresMs: x.ExpiresMs, AcceptedMs: x.AcceptedMs, Redelivered: x.Redelivered, RedriveOf: uint64(x.RedriveOf),
		})
	}
	if err := d.stream.SendMsg(&codec.Raw{Bytes: b}); err != nil {
		return false, err
	}
	d.mu.Lock()
	d.waiting -= n
	d.mu.Unlock()
	signal(d.room)
	return true, nil
}

// read carries out request after request.
func (d *deliverStream) read() error {
	for {
		q := new(peerv1.DeliverRequest)
		if err := receive(d.stream, q); err != nil {
			return err
		}
		if !d.reserve(len(q.GetSettlements()) + len(q.GetRenewals())) {
			return context.Canceled
		}
		d.carryOut(q)
	}
}

func (d *deliverStream) carryOut(q *peerv1.DeliverRequest) {
	if q.GetRelease() {
		defer d.session.Release()
	}
	if list := q.GetSettlements(); len(list) > 0 {
		what := make([]actors.Settlement, len(list))
		for i, x := range list {
			s := x.GetSettlement()
			what[i] = actors.Settlement{
				Repo: s.GetRepoId(), Seq: repository.Seq(s.GetSequence()), Token: repository.Token(s.GetLeaseToken()),
				Outcome: actors.Outcome(max(0, min(s.GetOutcome(), 255))), Error: s.GetError(), Result: s.GetResult(),
				RetryAfterMs: s.GetRetryAfterMs(),
			}
		}
		d.session.Settle(what, func(out []actors.SettlementOutcome) {
			d.mu.Lock()
			for i := range out {
				d.settled = append(d.settled, &peerv1.DeliverOutcome{Id: list[out[i].Index].GetId(), Error: errorProto(out[i].Refusal)})
			}
			d.mu.Unlock()
			signal(d.wake)
		})
	}
	if list := q.GetRenewals(); len(list) > 0 {
		what := make([]actors.LeaseRef, len(list))
		for i, x := range list {
			what[i] = actors.LeaseRef{Repo: x.GetLease().GetRepoId(), Token: repository.Token(x.GetLease().GetLeaseToken())}
		}
		d.session.Renew(what, func(out []actors.RenewOutcome) {
			d.mu.Lock()
			for i := range out {
				d.renewed = append(d.renewed, &peerv1.DeliverOutcome{
					Id: list[out[i].Index].GetId(), Error: errorProto(out[i].Refusal), ExpiresMs: out[i].ExpiresMs,
				})
			}
			d.mu.Unlock()
			signal(d.wake)
		})
	}
	if q.GetDrain() {
		d.session.Drain()
	}
	if n := q.GetAsk(); n > 0 {
		d.session.Ask(n)
	} else if q.GetDecline() {
		d.session.Ask(0)
	}
}

func errorProto(r *actors.Refusal) *waystationv1.Error {
	if r == nil {
		return nil
	}
	return &waystationv1.Error{
		Code: r.Code, Field: r.Field, Message: r.Message, RetryAfterMs: r.RetryAfter.Milliseconds(), ExpectedSequence: r.Expected,
	}
}

// reserve waits until n more answers may be outstanding; false when the stream ends.
func (d *deliverStream) reserve(n int) bool {
	for {
		d.mu.Lock()
		fits := d.waiting == 0 || d.waiting+n <= unanswered
		if fits {
			d.waiting += n
		}
		d.mu.Unlock()
		if fits {
			return true
		}
		select {
		case <-d.room:
		case <-d.stream.Context().Done():
			return false
		}
	}
}

func (d *deliverStream) finish(cause error) {
	d.mu.Lock()
	d.finished, d.cause = true, cause
	d.mu.Unlock()
	signal(d.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
