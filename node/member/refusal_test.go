package member

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/waystation/waystation/cluster/meta"
)

// Whoever meta refuses is told what to do, where it asked and where it runs.
func TestRefusalsSayWhatToDo(t *testing.T) {
	for _, x := range []struct {
		cause  error
		remedy string
		code   codes.Code
	}{
		{meta.ErrNameTaken, "--name", codes.AlreadyExists},
		{meta.ErrRemoved, "--data-dir", codes.FailedPrecondition},
		{meta.ErrCopy, "--data-dir", codes.FailedPrecondition},
		{meta.ErrFeature, "update", codes.FailedPrecondition},
		{meta.ErrTooMany, "remove", codes.FailedPrecondition},
		{meta.ErrInvalid, "", codes.FailedPrecondition},
		{context.DeadlineExceeded, "", codes.Unavailable},
	} {
		err := fmt.Errorf("record start: %w", x.cause)
		if told := joinStatus(err); status.Code(told) != x.code || !strings.Contains(told.Error(), x.remedy) {
			t.Errorf("%v: %v", x.cause, told)
		}
		refused := refusal(err)
		if x.code == codes.Unavailable {
			if refused != nil {
				t.Errorf("%v is for good: %v", x.cause, refused)
			}
		} else if !errors.Is(refused, x.cause) || !strings.Contains(refused.Error(), x.remedy) {
			t.Errorf("%v: %v", x.cause, refused)
		}
	}
}
