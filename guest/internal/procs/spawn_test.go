package procs

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestWhatAChildThatCannotBeMadeEndsWith(t *testing.T) {
	ends := map[error]string{syscall.EAGAIN: "126 pids", syscall.ENOENT: "127 ", syscall.ENOMEM: "126 ", errors.New("x"): "126 "}
	for cause, want := range ends {
		code, limit := codeOf(fmt.Errorf("cannot start x: %w", cause))
		if got := fmt.Sprint(code, " ", limit); got != want {
			t.Errorf("%v: %q instead of %q", cause, got, want)
		}
	}
}
