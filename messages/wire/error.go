package wire

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// FieldError refuses one field of what a caller sent. It becomes INVALID_ARGUMENT.
type FieldError struct {
	// Field is the protobuf name, with dots inside nested messages.
	Field string
	// Message says what is wrong and what would be right.
	Message string
}

// Error returns "field: message".
func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

func refuse(field, format string, args ...any) *FieldError {
	return &FieldError{Field: field, Message: fmt.Sprintf(format, args...)}
}

func notUTF8(field string) *FieldError {
	return refuse(field, "is not valid UTF-8")
}

func broken(field string) *FieldError {
	return refuse(field, "is not a valid protobuf message")
}

// text makes s fit for a protobuf string: one bad byte in an error's message
// would cost the reader the whole response.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
