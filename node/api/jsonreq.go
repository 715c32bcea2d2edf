package api

import (
	waystationv1 "github.com/waystation/waystation/messages/waystation/v1"
	"github.com/waystation/waystation/messages/wire"
)

var (
	priorityNames = []string{"NORMAL", "HIGH", "LOW"}
	encodingNames = []string{"IDENTITY", "GZIP", "ZSTD"}
	outcomeNames  = []string{"unspecified", "done", "retry", "dead"}
)

// packet reads a CodePacket.
func (r *jsonReader) packet(p *wire.PacketFields) {
	r.object(func(key string) {
		switch key {
		case "repo_id":
			p.RepoID = r.text()
		case "content":
			p.Content = r.bytes()
		case "metadata":
			p.Metadata = r.strings()
		case "packet_id":
			p.PacketID = r.text()
		case "position":
			r.position(p)
		case "priority":
			p.Priority = r.enum(priorityNames...)
		case "content_encoding":
			p.Encoding = r.enum(encodingNames...)
		case "kind":
			p.Kind = r.text()
		case "time_to_live":
			p.TimeToLive = r.duration()
		case "deliver_after":
			p.DeliverAfter = r.duration()
		case "created_at":
			p.CreatedAt = r.time()
		case "traceparent":
			p.Traceparent = r.text()
		case "content_crc32c":
			p.HasCRC = !r.null()
			if p.HasCRC {
				p.CRC = r.uint32()
			}
		default:
			r.unknown()
		}
	})
}

func (r *jsonReader) position(p *wire.PacketFields) {
	r.object(func(key string) {
		switch key {
		case "producer":
			if p.Producer = r.text(); p.Producer == "" {
				r.fail("is empty: 1 to 128 bytes of UTF-8 name the producer")
			}
		case "epoch":
			p.Epoch = r.uint64()
		case "sequence":
			p.Sequence = r.uint64()
		default:
			r.unknown()
		}
	})
	// A position without its producer would be left out when it is encoded.
	if r.err == nil && p.Producer == "" && (p.Epoch != 0 || p.Sequence != 0) {
		r.push("producer")
		r.fail("is missing: epoch and sequence count what one producer sends")
		r.pop()
	}
}

// packets reads {"packets":[…]}.
func (r *jsonReader) packets(most int) (packets []wire.PacketFields) {
	r.object(func(key string) {
		if key != "packets" {
			r.unknown()
			return
		}
		r.array(func() {
			if len(packets) == most {
				r.fail("is one too many: at most %d packets are allowed in one request; split it", most)
				return
			}
			packets = append(packets, wire.PacketFields{})
			r.packet(&packets[len(packets)-1])
		})
	})
	return packets
}

func (r *jsonReader) pull(req *waystationv1.PullRequest) {
	r.object(func(key string) {
		switch key {
		case "max":
			req.Max = r.uint32()
		case "wait_ms":
			req.WaitMs = r.uint32()
		case "lease_ms":
			req.LeaseMs = r.uint32()
		case "worker":
			req.Worker = r.text()
		default:
			r.unknown()
		}
	})
}

func (r *jsonReader) settle(req *waystationv1.SettleRequest) {
	r.object(func(key string) {
		if key != "settlements" {
			r.unknown()
			return
		}
		r.array(func() {
			s := &waystationv1.Settlement{}
			r.settlement(s)
			req.Settlements = append(req.Settlements, s)
		})
	})
}

func (r *jsonReader) settlement(s *waystationv1.Settlement) {
	r.object(func(key string) {
		switch key {
		case "repo_id":
			s.RepoId = r.text()
		case "sequence":
			s.Sequence = r.uint64()
		case "lease_token":
			s.LeaseToken = r.uint64()
		case "outcome":
			s.Outcome = waystationv1.Outcome(r.enum(outcomeNames...))
		case "error":
			s.Error = r.text()
		case "result":
			s.Result = r.bytes()
		case "retry_after_ms":
			s.RetryAfterMs = r.uint32()
		default:
			r.unknown()
		}
	})
}

func (r *jsonReader) renew(req *waystationv1.RenewRequest) {
	r.object(func(key string) {
		if key != "leases" {
			r.unknown()
			return
		}
		r.array(func() {
			l := &waystationv1.LeaseRef{}
			r.object(func(key string) {
				switch key {
				case "repo_id":
					l.RepoId = r.text()
				case "lease_token":
					l.LeaseToken = r.uint64()
				default:
					r.unknown()
				}
			})
			req.Leases = append(req.Leases, l)
		})
	})
}
