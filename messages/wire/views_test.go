package wire

import (
	"testing"
)

func TestViewsParseWhatWasAppended(t *testing.T) {
	packet := AppendPacket(nil, &PacketFields{RepoID: "r", Content: []byte("content")})
	for _, want := range []DeliveryView{
		{Packet: packet},
		{Packet: packet, Sequence: 7, LeaseToken: 9, Attempt: 2, LeaseMs: 30_000, LeaseExpiresMs: 1_700_000_000_123, AcceptedMs: 1_600_000_000_001, Redelivered: true},
	} {
		n := 0
		err := WalkFirst(AppendDelivery(AppendDelivery(nil, &want), &want), func(b []byte) error {
			var got DeliveryView
			if err := got.Parse(b); err != nil {
				return err
			}
			n++
			if string(got.Packet) != string(want.Packet) {
				t.Errorf("packet %q, want %q", got.Packet, want.Packet)
			}
			got.Packet, want.Packet = nil, nil
			if got.Sequence != want.Sequence || got.LeaseToken != want.LeaseToken || got.Attempt != want.Attempt || got.LeaseMs != want.LeaseMs ||
				got.LeaseExpiresMs != want.LeaseExpiresMs || got.AcceptedMs != want.AcceptedMs || got.Redelivered != want.Redelivered {
				t.Errorf("got %+v, want %+v", got, want)
			}
			want.Packet = packet
			return nil
		})
		if err != nil || n != 2 {
			t.Errorf("%d deliveries, %v", n, err)
		}
	}
	stored := StoredView{Packet: packet, Sequence: 3, AcceptedMs: 1_600_000_000_001}
	err := WalkFirst(AppendStoredPacket(nil, &stored), func(b []byte) error {
		var got StoredView
		if err := got.Parse(b); err != nil {
			return err
		}
		if string(got.Packet) != string(packet) || got.Sequence != 3 || got.AcceptedMs != stored.AcceptedMs {
			t.Errorf("got %+v, want %+v", got, stored)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestViewsRefuseWhatIsBroken(t *testing.T) {
	var d DeliveryView
	var v StoredView
	broken := []byte{1<<3 | 2, 200, 1}
	if d.Parse(broken) == nil || v.Parse(broken) == nil || WalkFirst(broken, func([]byte) error { return nil }) == nil {
		t.Error("a broken message was parsed")
	}
}
