// Package stages names the step at which the launcher failed, for the message of whoever called it.
package stages

import (
	"fmt"
	"syscall"
)

// Error is told as JSON; src/cloche/engines/launched/stages.py turns it into words and a remedy.
type Error struct {
	Stage string `json:"stage"`
	Errno int    `json:"errno"`
	Text  string `json:"message"`
}

func (e *Error) Error() string { return e.Stage + ": " + e.Text }

// Of gives err the name of its step, unless it has one.
func Of(name string, err error) error {
	if err == nil {
		return nil
	}
	if already, ok := err.(*Error); ok {
		return already
	}
	errno, _ := err.(syscall.Errno)
	return &Error{Stage: name, Errno: int(errno), Text: err.Error()}
}

// Off is an error of our own, not the kernel's.
func Off(name, format string, args ...any) error {
	return &Error{Stage: name, Text: fmt.Sprintf(format, args...)}
}
