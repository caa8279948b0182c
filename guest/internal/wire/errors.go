package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Error is a refusal as the wire shows it: {"error": {"code", "message", "details"}}.
type Error struct {
	Code    string
	Message string
	Details map[string]any
}

func (e *Error) Error() string { return e.Message }

// With adds one detail and returns the same error.
func (e *Error) With(key string, value any) *Error {
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	e.Details[key] = value
	return e
}

// MarshalJSON implements json.Marshaler.
func (e *Error) MarshalJSON() ([]byte, error) {
	body := map[string]any{"code": e.Code, "message": Text(e.Message)}
	if len(e.Details) > 0 {
		body["details"] = e.Details
	}
	return json.Marshal(map[string]any{"error": body})
}

var statuses = map[string]int{
	"invalid": 422, "not_found": 404, "already_exists": 409, "wrong_state": 409, "permission_denied": 403,
	"no_space": 507, "needs_subuid": 501, "unavailable_here": 501, "limit_hit": 429,
	"interpreter_missing": 501,
}

// Status is the HTTP status of the error's code.
func (e *Error) Status() int {
	if status, ok := statuses[e.Code]; ok {
		return status
	}
	return 500
}

// Errorf makes an error of any code.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid makes an error that blames the request.
func Invalid(format string, args ...any) *Error { return Errorf("invalid", format, args...) }

// InvalidField makes an error that blames one field of the request.
func InvalidField(field, format string, args ...any) *Error {
	return Errorf("invalid", format, args...).With("field", field)
}

var errnoCodes = map[syscall.Errno]string{
	syscall.ENOENT: "not_found", syscall.EEXIST: "already_exists", syscall.ENOTEMPTY: "wrong_state",
	syscall.EACCES: "permission_denied", syscall.EPERM: "permission_denied", syscall.EROFS: "permission_denied",
	syscall.ENOSPC: "no_space", syscall.EDQUOT: "no_space", syscall.EMFILE: "limit_hit", syscall.ENFILE: "limit_hit",
	syscall.ENOTDIR: "invalid", syscall.EISDIR: "invalid", syscall.ELOOP: "invalid", syscall.EINVAL: "invalid",
	syscall.ENAMETOOLONG: "invalid", syscall.EXDEV: "invalid", syscall.EBUSY: "wrong_state",
	syscall.ETXTBSY: "wrong_state", syscall.EFBIG: "limit_hit", syscall.EMLINK: "limit_hit",
}

// FromErr translates what the kernel said; an *Error passes through.
func FromErr(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if code, ok := errnoCodes[errno]; ok {
			return Errorf(code, "%s", err.Error()).With("errno", int(errno))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Errorf("not_found", "%s", err.Error())
	}
	return Errorf("internal", "%s", err.Error())
}
