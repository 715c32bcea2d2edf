package transport

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestWhichFailuresAreNoNews(t *testing.T) {
	for _, c := range []struct {
		err         error
		first, want bool
	}{
		{io.EOF, true, false},
		{io.EOF, false, true}, // the node is away: that was said
		{fmt.Errorf("dial: %w", errUnknownAddress), true, true},
		{&Refusal{Code: refusedNotMember, Theirs: true}, true, true},
		{&Refusal{Code: refusedCluster, Theirs: true}, true, false},
		{fmt.Errorf("connect: %w", &Refusal{Code: refusedRemoved, Theirs: true}), false, false},
		{errors.New("reset"), true, false},
	} {
		if got := passing(c.err, c.first); got != c.want {
			t.Errorf("%v, first %v: %v", c.err, c.first, got)
		}
	}
}
