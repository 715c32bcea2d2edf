package route

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	peerv1 "github.com/waystation/waystation/messages/waystation/peer/v1"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

// sub is a session's part on one node: another one, over a stream that is opened
// again when it breaks, or this one, of which it only has the counts. All but the
// first fields are guarded by session.mu.
type sub struct {
	s      *session
	node   Node // zero: this one
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // something to be sent, one place
	gone   chan struct{} // closed when run has ended

	up       bool // it may be asked
	ready    bool // it may have packets
	told     bool // it said so, and was not answered
	declined bool // it was answered that there is no credit
	lent     int
	tried    bool // a first stream was tried
	again    int  // packets that it delivers again
	closing  bool
	dropped  bool

	out      *peerv1.DeliverRequest // to be sent; never nil while up
	renewals map[uint64]*renewing
}

func (x *sub) remote() bool { return x.wake != nil }

// ring has what is in out sent. The caller holds session.mu.
func (x *sub) ring() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// settle sends a settlement. The caller holds session.mu.
func (x *sub) settle(y *settling) {
	x.out.Settlements = append(x.out.Settlements, &peerv1.DeliverSettlement{Id: y.number, Settlement: settlementProto(&y.what)})
	x.ring()
}

// renew sends a renewal. The caller holds session.mu.
func (x *sub) renew(number uint64, y *renewing) {
	x.renewals[number] = y
	x.out.Renewals = append(x.out.Renewals, &peerv1.DeliverRenewal{
		Id: number, Lease: &waystationv1.LeaseRef{RepoId: y.what.Repo, LeaseToken: uint64(y.what.Token)},
	})
	x.ring()
}

// farewell is how long the last words of a session may take to another node.
const farewell = 5 * time.Second

// run opens stream after stream until the session ends.
func (x *sub) run() {
	defer close(x.gone)
	defer x.cancel()
	stop := context.AfterFunc(x.s.r.life, x.cancel)
	defer stop()
	for rest := restMin; ; rest = min(2*rest, restMax) {
		opened, err := x.stream()
		if opened {
			rest = restMin
		}
		over := x.lost(err)
		if over {
			return
		}
		x.s.r.log.Debug("session's stream ended", slog.String("node", x.node.ID), slog.Any("error", err))
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-x.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// errTaken says that another session was opened under the worker's name.
var errTaken = &actors.Refusal{
	Code: actors.CodeUnavailable, Field: "worker", RetryAfter: 100 * time.Millisecond,
	Message: "another session was opened under the same worker name",
}

// lost takes the end of a stream in, and says whether it was the last one.
func (x *sub) lost(err error) (over bool) {
	s := x.s
	s.mu.Lock()
	x.up, x.told, x.declined, x.tried, x.out = false, false, false, true, nil
	s.lent -= x.lent
	x.lent = 0
	renewals := x.renewals
	x.renewals = nil
	for _, y := range s.open {
		if y.at == x {
			y.at = nil
			s.later()
		}
	}
	over = x.closing || x.dropped || s.ended || x.ctx.Err() != nil
	s.lend()
	s.mu.Unlock()
	s.signal()
	for _, y := range renewals {
		y.say(0, refusedRepeat)
	}
	if !over && status.Code(err) == codes.Aborted {
		s.end(errTaken)
		return true
	}
	return over
}

var deliverDesc = &peerv1.Lanes_ServiceDesc.Streams[0]

// stream is one stream, from its opening to its end.
func (x *sub) stream() (opened bool, err error) {
	conn, err := x.s.r.conns.Conn(x.node.PeerAddr)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	st, err := conn.NewStream(ctx, deliverDesc, peerv1.Lanes_Deliver_FullMethodName, x.s.r.callOption)
	if err != nil {
		return false, err
	}
	c := &x.s.cfg
	err = st.SendMsg(&peerv1.DeliverRequest{Open: &peerv1.DeliverOpen{
		Group: c.Group, Worker: c.Worker, LeaseMs: c.LeaseMs, MaxBatch: c.MaxBatch, Anonymous: c.Anonymous,
	}})
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	var first peerv1.DeliverResponse
	if err := st.RecvMsg(&first); err != nil {
		return false, err
	}
	x.opened(&first)
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		err = x.receive(st)
	}()
	x.send(st, broken, cancel)
	<-broken
	return true, err
}

// opened says that the stream is there: what was lent before is forgotten, and it
// may have anything.
func (x *sub) opened(first *peerv1.DeliverResponse) {
	s := x.s
	var acts actions
	t := s.r.table.Load()
	s.mu.Lock()
	if !x.dropped {
		x.up, x.ready, x.tried = true, true, true
		x.again = int(first.GetOpened().GetRedelivered())
		x.out, x.renewals = &peerv1.DeliverRequest{Drain: s.draining, Release: s.released}, map[uint64]*renewing{}
		acts = s.reroute(t)
		s.lend()
	}
	s.mu.Unlock()
	s.signal()
	s.do(acts)
}

// send sends what gathers until the stream breaks, or the session is closed and
// everything is said.
func (x *sub) send(st grpc.ClientStream, broken <-chan struct{}, cancel func()) {
	for {
		s := x.s
		s.mu.Lock()
		out, closing := x.out, x.closing
		if out != nil {
			x.out = &peerv1.DeliverRequest{}
		}
		s.mu.Unlock()
		if out != nil && anything(out) {
			if st.SendMsg(out) != nil {
				return // the receiver learns why
			}
			continue
		}
		if closing {
			_ = st.CloseSend() // a stream that broke is closed
			timer := time.NewTimer(farewell)
			defer timer.Stop()
			select {
			case <-broken:
			case <-timer.C:
				cancel()
			}
			return
		}
		select {
		case <-x.wake:
		case <-broken:
			return
		}
	}
}

func anything(q *peerv1.DeliverRequest) bool {
	return q.Ask > 0 || q.Decline || q.Drain || q.Release || len(q.Settlements)+len(q.Renewals) > 0
}

// receive takes what the node says until the stream ends.
func (x *sub) receive(st grpc.ClientStream) error {
	for {
		var a peerv1.DeliverResponse
		if err := st.RecvMsg(&a); err != nil {
			return err
		}
		if err := x.take(&a); err != nil {
			return err
		}
	}
}

func (x *sub) take(a *peerv1.DeliverResponse) error {
	s := x.s
	list, err := deliveries(a.GetDeliveries())
	if err != nil {
		return err
	}
	var renewed []*renewing
	s.mu.Lock()
	if x.dropped {
		s.mu.Unlock()
		return errors.New("the node is gone")
	}
	for i := range list {
		if s.arrived(x, &list[i]) {
			s.queue = append(s.queue, list[i])
		}
	}
	s.noted(x, int(a.GetReturned()), a.GetReady())
	for _, o := range a.GetRenewals() {
		y := x.renewals[o.GetId()]
		delete(x.renewals, o.GetId())
		renewed = append(renewed, y)
		if y != nil {
			s.renewed(leaseKey{y.what.Repo, y.what.Token}, refusalOf(o.GetError()))
		}
	}
	s.lend()
	s.mu.Unlock()
	if len(list) > 0 || a.GetReturned() > 0 {
		s.signal()
	}
	for i, y := range renewed {
		if y != nil {
			o := a.GetRenewals()[i]
			y.say(o.GetExpiresMs(), refusalOf(o.GetError()))
		}
	}
	if n := len(a.GetSettlements()); n > 0 {
		numbers, refusals := make([]uint64, n), make([]*actors.Refusal, n)
		for i, o := range a.GetSettlements() {
			numbers[i], refusals[i] = o.GetId(), refusalOf(o.GetError())
		}
		s.settled(x, numbers, refusals)
	}
	return nil
}

// deliveries reads deliveries, whose packets stay where they are.
func deliveries(raw [][]byte) ([]actors.Delivery, error) {
	list := make([]actors.Delivery, len(raw))
	for i := range raw {
		var v wire.DeliveryView
		if err := v.Parse(raw[i]); err != nil {
			return nil, err
		}
		repo, err := wire.RepoOf(v.Packet)
		if err != nil {
			return nil, err
		}
		list[i] = actors.Delivery{
			Repo: string(repo), Seq: repository.Seq(v.Sequence), Token: repository.Token(v.LeaseToken), Attempt: v.Attempt, LeaseMs: v.LeaseMs,
			ExpiresMs: v.LeaseExpiresMs, AcceptedMs: v.AcceptedMs, Redelivered: v.Redelivered, RedriveOf: repository.Seq(v.RedriveOf), Packet: v.Packet,
		}
	}
	return list, nil
}
