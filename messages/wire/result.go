package wire

// ResultView is one packet's PublishResult: a receipt when Code is empty, else
// an error.
type ResultView struct {
	// Repo and ID are the packet's own; both must be UTF-8.
	Repo, ID []byte
	// Sequence is the packet's number in its repository.
	Sequence uint64
	// Duplicate and ContentDiffers are as in Receipt.
	Duplicate, ContentDiffers bool
	// Code, Field, Message, RetryAfterMs, Expected and Leader are as in Error.
	Code, Field, Message string
	// RetryAfterMs is milliseconds.
	RetryAfterMs int64
	// Expected is the position that a GAP asks for.
	Expected uint64
	// Leader is an address.
	Leader string
}

// AppendResult appends one element of PublishStreamResponse.results to b. Any
// number of them, one after the other, is a PublishStreamResponse.
func AppendResult(b []byte, index uint64, r *ResultView) []byte {
	const (
		resultsKey = 1<<3 | byte(bytes)
		indexKey   = 1<<3 | byte(varint)
		receiptKey = 2<<3 | byte(bytes)
		errorKey   = 3<<3 | byte(bytes)
	)
	if r.Code != "" {
		e := r.refusal()
		n := e.size()
		b = appendLen(b, resultsKey, sizeUint(index)+sizeLen(n))
		b = appendUint(b, indexKey, index)
		return e.append(appendLen(b, errorKey, n))
	}
	n := r.sizeReceipt()
	b = appendLen(b, resultsKey, sizeUint(index)+sizeLen(n))
	b = appendUint(b, indexKey, index)
	return r.appendReceipt(appendLen(b, receiptKey, n))
}

func (r *ResultView) sizeReceipt() int {
	return sizeBytes(len(r.Repo)) + sizeBytes(len(r.ID)) + sizeUint(r.Sequence) +
		sizeBool(r.Duplicate) + sizeBool(r.ContentDiffers)
}

func (r *ResultView) appendReceipt(b []byte) []byte {
	b = appendBytes(b, 1<<3|byte(bytes), r.Repo)
	b = appendBytes(b, 2<<3|byte(bytes), r.ID)
	b = appendUint(b, 3<<3|byte(varint), r.Sequence)
	b = appendBool(b, 4<<3|byte(varint), r.Duplicate)
	return appendBool(b, 5<<3|byte(varint), r.ContentDiffers)
}

// refusal is an Error whose strings are fit for protobuf.
type refusal struct {
	code, field, message string
	retryAfterMs         int64
	expected             uint64
	leader               string
}

func (r *ResultView) refusal() refusal {
	return refusal{text(r.Code), text(r.Field), text(r.Message), r.RetryAfterMs, r.Expected, text(r.Leader)}
}

func (e *refusal) size() int {
	return sizeBytes(len(e.code)) + sizeBytes(len(e.field)) + sizeBytes(len(e.message)) +
		sizeUint(uint64(e.retryAfterMs)) + sizeUint(e.expected) + sizeBytes(len(e.leader))
}

func (e *refusal) append(b []byte) []byte {
	b = appendBytes(b, 1<<3|byte(bytes), e.code)
	b = appendBytes(b, 2<<3|byte(bytes), e.field)
	b = appendBytes(b, 3<<3|byte(bytes), e.message)
	b = appendUint(b, 4<<3|byte(varint), uint64(e.retryAfterMs))
	b = appendUint(b, 5<<3|byte(varint), e.expected)
	return appendBytes(b, 6<<3|byte(bytes), e.leader)
}
