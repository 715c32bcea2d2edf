package client

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/waystation/waystation/client/internal/order"
)

// result is one element of a PublishStreamResponse, read in place: packetID
// aliases the response.
type result struct {
	index     uint64
	sequence  uint64
	packetID  []byte
	duplicate bool
	differs   bool
	err       *Error // nil for a receipt
}

var errBroken = errors.New("broken protobuf")

// fields calls visit with each field of a message: v is the number or the fixed
// value of scalars, b the bytes of the others.
func fields(message []byte, visit func(number protowire.Number, v uint64, b []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errBroken
		}
		message = message[n:]
		var v uint64
		var b []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return errBroken
		}
		message = message[n:]
		if err := visit(number, v, b); err != nil {
			return err
		}
	}
	return nil
}

// parseResults appends the results of a PublishStreamResponse to dst. routes are
// those that it has, nil for none; they alias response.
func parseResults(dst []result, response []byte) (_ []result, routes []byte, _ error) {
	for len(response) > 0 {
		number, kind, n := protowire.ConsumeTag(response)
		if n < 0 {
			return dst, nil, fmt.Errorf("parse results: %w", errBroken)
		}
		response = response[n:]
		if number == 2 && kind == protowire.BytesType {
			if routes, n = protowire.ConsumeBytes(response); n < 0 {
				return dst, nil, fmt.Errorf("parse results: %w", errBroken)
			}
			response = response[n:]
			continue
		}
		if number != 1 || kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, response); n < 0 {
				return dst, nil, fmt.Errorf("parse results: %w", errBroken)
			}
			response = response[n:]
			continue
		}
		b, n := protowire.ConsumeBytes(response)
		if n < 0 {
			return dst, nil, fmt.Errorf("parse results: %w", errBroken)
		}
		response = response[n:]
		dst = append(dst, result{})
		if err := dst[len(dst)-1].parse(b); err != nil {
			return dst, nil, fmt.Errorf("parse results: %w", err)
		}
	}
	return dst, routes, nil
}

func (r *result) parse(message []byte) error {
	return fields(message, func(number protowire.Number, v uint64, b []byte) (err error) {
		switch number {
		case 1:
			r.index = v
		case 2:
			err = r.parseReceipt(b)
		case 3:
			r.err, err = parseError(b)
		}
		return err
	})
}

func (r *result) parseReceipt(message []byte) error {
	return fields(message, func(number protowire.Number, v uint64, b []byte) error {
		switch number {
		case 2:
			r.packetID = b
		case 3:
			r.sequence = v
		case 4:
			r.duplicate = v != 0
		case 5:
			r.differs = v != 0
		}
		return nil
	})
}

func parseError(message []byte) (*Error, error) {
	e := &Error{}
	err := fields(message, func(number protowire.Number, v uint64, b []byte) error {
		switch number {
		case 1:
			e.Code = codeString(b)
		case 2:
			e.Field = string(b)
		case 3:
			e.Message = string(b)
		case 4:
			e.RetryAfter = millis(int64(min(v, math.MaxInt64)))
		case 5:
			e.Expected = v
		case 6:
			e.Leader = string(b)
		}
		return nil
	})
	return e, err
}

// codeString spares the copy for the codes that come in thousands under load.
func codeString(b []byte) string {
	switch string(b) {
	case CodeResourceExhausted:
		return CodeResourceExhausted
	case CodeGap:
		return CodeGap
	case CodeUnknown:
		return CodeUnknown
	case CodeUnavailable:
		return CodeUnavailable
	case CodeStaleLease:
		return CodeStaleLease
	}
	return string(b)
}

// receipt returns the result as a receipt of a packet that was sent with id.
func (r *result) receipt(repo, id string) Receipt {
	if string(r.packetID) != id { // no copy where the server only says it again
		id = string(r.packetID)
	}
	return Receipt{RepoID: repo, PacketID: id, Sequence: r.sequence, Duplicate: r.duplicate, ContentDiffers: r.differs}
}

// errorOf avoids an error that is a nil *Error.
func errorOf(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// verdict translates a result for the lane.
func (r *result) verdict() order.Answer {
	if r.err == nil {
		return order.Answer{Verdict: order.Accepted}
	}
	a := order.Answer{Expected: r.err.Expected, DelayMs: r.err.RetryAfter.Milliseconds()}
	switch r.err.Code {
	case CodeResourceExhausted:
		a.Verdict = order.Busy
	case CodeUnavailable:
		a.Verdict = order.Away
	case CodeGap:
		a.Verdict = order.Gap
	case CodeUnknownProducer:
		a.Verdict = order.UnknownProducer
	case CodeFenced:
		a.Verdict = order.Fenced
	case CodeInvalidArgument, CodeNotFound, CodePermissionDenied, CodeUnauthenticated, CodeUnimplemented:
		a.Verdict = order.Refused
	default:
		// UNKNOWN, INTERNAL, and whatever a newer server may say: a resend under
		// the same position is safe in any case.
		a.Verdict = order.Unknown
	}
	return a
}
