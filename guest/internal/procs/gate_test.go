package procs

import (
	"errors"
	"testing"

	"cloche/guest/internal/wire"
)

func TestStartsWaitAtAGateThatIsClosed(t *testing.T) {
	var gate Gate
	gate.Close()
	started := make(chan error, 1)
	go func() { started <- gate.pass(func() error { return errors.New("it ran") }) }()
	select {
	case <-started:
		t.Fatal("it went through")
	default:
	}
	gate.Open(false)
	if err := <-started; err == nil || err.Error() != "it ran" {
		t.Error(err)
	}
}

func TestStartsThatWaitedAreNotMadeInACopy(t *testing.T) {
	var gate Gate
	gate.Close()
	before := gate.copies.Load()
	gate.Open(true)
	err := gate.passed(before, func() error { t.Error("it ran"); return nil })
	var refusal *wire.Error
	if !errors.As(err, &refusal) || refusal.Code != "wrong_state" {
		t.Error(err)
	}
	if err := gate.pass(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
