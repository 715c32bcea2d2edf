package api

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/waystation/waystation/actors"
	"github.com/waystation/waystation/actors/repository"
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

type workClient = grpc.BidiStreamingClient[waystationv1.WorkRequest, waystationv1.WorkResponse]

func openWork(t *testing.T, c waystationv1.WaystationClient, first *waystationv1.WorkRequest) workClient {
	t.Helper()
	s, err := c.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(first); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if err != nil || !resp.GetReady() {
		t.Fatalf("first answer: %v, %v", resp, err)
	}
	return s
}

func opening() *waystationv1.WorkRequest {
	return &waystationv1.WorkRequest{Open: &waystationv1.WorkOpen{Group: "ci", Credit: 4}}
}

func done(token uint64) []*waystationv1.Settlement {
	return []*waystationv1.Settlement{{RepoId: "acme/api", Sequence: 7, LeaseToken: token, Outcome: waystationv1.Outcome_DONE}}
}

// Who is told that the stream is ready may take what comes then for new: as long
// as a partition has not said what it has, it is not.
func TestWorkIsReadyOnceAllWasLookedFor(t *testing.T) {
	f, _, c := grpcFixture(t)
	session := f.delivery.session
	session.pending.Store(true)
	s, err := c.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(opening()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		session.put(aDelivery())
		if resp, err := s.Recv(); err != nil || resp.GetReady() || len(resp.GetDeliveries()) != 1 {
			t.Fatalf("while partitions are silent: %v, %v", resp, err)
		}
	}
	session.pending.Store(false)
	if resp, err := s.Recv(); err != nil || !resp.GetReady() || len(resp.GetDeliveries()) != 0 {
		t.Fatalf("once all of them spoke: %v, %v", resp, err)
	}
}

func TestWork(t *testing.T) {
	f, _, c := grpcFixture(t)
	session := f.delivery.session
	s := openWork(t, c, opening())
	session.put(aDelivery(), aDelivery())
	resp, err := s.Recv()
	if err != nil || len(resp.GetDeliveries()) != 2 || resp.GetDeliveries()[0].GetPacket().GetPacketId() != "p1" {
		t.Fatalf("deliveries: %v, %v", resp, err)
	}
	if err := s.Send(&waystationv1.WorkRequest{
		Settlements: done(11), Renewals: []*waystationv1.LeaseRef{{RepoId: "a", LeaseToken: 11}, {RepoId: "b", LeaseToken: 3}}, Credit: 9,
	}); err != nil {
		t.Fatal(err)
	}
	var settled, renewed int
	for settled < 1 || renewed < 2 {
		resp, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resp.GetSettlements() {
			settled++
			if r.GetError() != nil || r.GetSequence() != 7 {
				t.Errorf("settlement: %v", r)
			}
		}
		for _, r := range resp.GetRenewals() {
			renewed++
			if (r.GetLeaseToken() == 3) != (r.GetError().GetCode() == actors.CodeStaleLease) {
				t.Errorf("renewal: %v", r)
			}
		}
	}
	await(t, "the credit", func() bool { return session.is(func(s *fakeSession) bool { return s.credit == 9 }) })
	if err := s.Send(&waystationv1.WorkRequest{Drain: true}); err != nil {
		t.Fatal(err)
	}
	await(t, "the drain", func() bool { return session.is(func(s *fakeSession) bool { return s.drained }) })
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	await(t, "the session to be closed", func() bool { return session.is(func(s *fakeSession) bool { return s.closed }) })
}

// TestWorkSendsLargePacketsAsTheyLie mixes packets that are copied into the
// message with such that are parts of it.
func TestWorkSendsLargePacketsAsTheyLie(t *testing.T) {
	f, _, c := grpcFixture(t)
	s := openWork(t, c, opening())
	var want []*waystationv1.Delivery
	var put []actors.Delivery
	for i, size := range []int{10, asPart, 5, 3 * asPart, asPart, 0, asPart - 100} {
		d := aDelivery()
		d.Seq = repository.Seq(i + 1)
		d.Packet = wire.AppendPacket(nil, &wire.PacketFields{RepoID: "acme/api", Content: bytes.Repeat([]byte{byte('a' + i)}, size)})
		put = append(put, d)
		p := &waystationv1.CodePacket{}
		if err := proto.Unmarshal(d.Packet, p); err != nil {
			t.Fatal(err)
		}
		want = append(want, &waystationv1.Delivery{Packet: p, Sequence: uint64(i + 1)})
	}
	f.delivery.session.put(put...)
	resp, err := s.Recv()
	if err != nil || len(resp.GetDeliveries()) != len(want) {
		t.Fatalf("%d deliveries, %v", len(resp.GetDeliveries()), err)
	}
	for i, d := range resp.GetDeliveries() {
		if !proto.Equal(d.GetPacket(), want[i].GetPacket()) || d.GetSequence() != want[i].GetSequence() || d.GetLeaseToken() != 11 {
			t.Errorf("delivery %d: %d bytes, sequence %d", i, len(d.GetPacket().GetContent()), d.GetSequence())
		}
	}
}

// TestWorkAnswersBeforeItEnds: a settlement that takes its time is answered
// although the worker has said its last word.
func TestWorkAnswersBeforeItEnds(t *testing.T) {
	f, _, c := grpcFixture(t)
	f.delivery.session.onSettle = func(list []actors.Settlement, done func([]actors.SettlementOutcome)) {
		time.AfterFunc(30*time.Millisecond, func() { done(settleAll(list)) })
	}
	s := openWork(t, c, opening())
	if err := s.Send(&waystationv1.WorkRequest{Settlements: done(11)}); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if err != nil || len(resp.GetSettlements()) != 1 {
		t.Fatalf("answer: %v, %v", resp, err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

func TestWorkRefusals(t *testing.T) {
	f, _, c := grpcFixture(t)
	for name, x := range map[string]struct {
		requests []*waystationv1.WorkRequest
		err      error
		code     codes.Code
		field    string
	}{
		"no open":       {[]*waystationv1.WorkRequest{{Credit: 1}}, nil, codes.InvalidArgument, "open"},
		"two opens":     {[]*waystationv1.WorkRequest{opening(), opening()}, nil, codes.InvalidArgument, "open"},
		"unknown group": {[]*waystationv1.WorkRequest{opening()}, &actors.Refusal{Code: actors.CodeInvalidArgument, Field: "group"}, codes.InvalidArgument, "group"},
	} {
		f.delivery.err = x.err
		s, err := c.Work(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range x.requests {
			_ = s.Send(r) // may see the end already
		}
		for err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != x.code || field(t, err) != x.field {
			t.Errorf("%s: field %q: %v", name, field(t, err), err)
		}
	}
}

// TestWorkDrains: the worker is told, may still settle, and the stream ends as
// soon as it holds nothing more.
func TestWorkDrains(t *testing.T) {
	f, _, c := grpcFixture(t)
	s := openWork(t, c, opening())
	f.delivery.session.put(aDelivery())
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	f.health.Drain()
	resp, err := s.Recv()
	if err != nil || !resp.GetDraining() {
		t.Fatalf("draining: %v, %v", resp, err)
	}
	if err := s.Send(&waystationv1.WorkRequest{Settlements: done(11)}); err != nil {
		t.Fatal(err)
	}
	resp, err = s.Recv()
	if err != nil || len(resp.GetSettlements()) != 1 {
		t.Fatalf("settlement: %v, %v", resp, err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the end: %v", err)
	}
}

func TestWorkSessionTakenOver(t *testing.T) {
	f, _, c := grpcFixture(t)
	s := openWork(t, c, opening())
	close(f.delivery.session.done)
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable || field(t, err) != "worker" {
		t.Errorf("the end: %v", err)
	}
}

// TestWorkerThatNeverReads: its settlements are not taken in without end.
func TestWorkerThatNeverReads(t *testing.T) {
	f, _, c := grpcFixture(t)
	s := openWork(t, c, opening())
	list := make([]*waystationv1.Settlement, 1000)
	for i := range list {
		list[i] = &waystationv1.Settlement{RepoId: "acme/api", Sequence: 7, LeaseToken: 11, Outcome: waystationv1.Outcome_DONE}
	}
	f.delivery.session.onSettle = func([]actors.Settlement, func([]actors.SettlementOutcome)) {} // none is ever answered
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 100 {
			if s.Send(&waystationv1.WorkRequest{Settlements: list}) != nil {
				return
			}
		}
	}()
	await(t, "the first settlements", func() bool {
		return f.delivery.session.is(func(s *fakeSession) bool { return s.settled >= unsettled-1000 })
	})
	if f.delivery.session.is(func(s *fakeSession) bool { return s.settled > unsettled }) {
		t.Error("more than may be unanswered was taken in")
	}
	f.health.Drain()
	f.delivery.session.is(func(s *fakeSession) bool { s.held = 0; return true })
	close(f.delivery.session.done)
	<-over
}
