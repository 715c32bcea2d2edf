package wire

// WalkResults reads response, a PublishStreamResponse, and calls visit with each
// result, until it returns false. The view and its slices are valid during the
// call; strings, which only refusals have, are copies. The error is a *FieldError
// when the response is not protobuf; what was visited before stands.
func WalkResults(response []byte, visit func(index uint64, r *ResultView) bool) error {
	var view ResultView
	s := scan(response)
	for s.next() {
		if s.key != 1<<3|bytes {
			continue
		}
		index, ok := view.parse(s.bytes)
		if !ok {
			return broken("results")
		}
		if !visit(index, &view) {
			return nil
		}
	}
	if s.bad {
		return broken("results")
	}
	return nil
}

func (r *ResultView) parse(result []byte) (index uint64, ok bool) {
	*r = ResultView{}
	s := scan(result)
	ok = true
	for ok && s.next() {
		switch s.key {
		case 1<<3 | varint:
			index = s.value
		case 2<<3 | bytes:
			ok = r.parseReceipt(s.bytes)
		case 3<<3 | bytes:
			ok = r.parseError(s.bytes)
		}
	}
	return index, ok && !s.bad
}

func (r *ResultView) parseReceipt(receipt []byte) (ok bool) {
	s := scan(receipt)
	for s.next() {
		switch s.key {
		case 1<<3 | bytes:
			r.Repo = s.bytes
		case 2<<3 | bytes:
			r.ID = s.bytes
		case 3<<3 | varint:
			r.Sequence = s.value
		case 4<<3 | varint:
			r.Duplicate = s.value != 0
		case 5<<3 | varint:
			r.ContentDiffers = s.value != 0
		}
	}
	return !s.bad
}

func (r *ResultView) parseError(refusal []byte) (ok bool) {
	s := scan(refusal)
	for s.next() {
		switch s.key {
		case 1<<3 | bytes:
			r.Code = string(s.bytes)
		case 2<<3 | bytes:
			r.Field = string(s.bytes)
		case 3<<3 | bytes:
			r.Message = string(s.bytes)
		case 4<<3 | varint:
			r.RetryAfterMs = int64(s.value)
		case 5<<3 | varint:
			r.Expected = s.value
		case 6<<3 | bytes:
			r.Leader = string(s.bytes)
		}
	}
	return !s.bad
}
