// Package wire holds the shapes that cross the channel: text, frames, errors and the JSON of processes and files.
package wire

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is a string of arbitrary bytes. In JSON, bytes that are not UTF-8 travel as lone surrogates \udc80…\udcff,
// as Python's surrogateescape writes them; encoding/json would replace those by U+FFFD.
type Text string

const hexDigits = "0123456789abcdef"

// AppendText appends t as a JSON string literal.
func AppendText(dst []byte, t string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(t); {
		c := t[i]
		if c < utf8.RuneSelf {
			dst = appendASCII(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(t[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, '\\', 'u', 'd', 'c', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, t[i:i+size]...)
		}
		i += size
	}
	return append(dst, '"')
}

func appendASCII(dst []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, '\\', 'n')
	case c == '\t':
		return append(dst, '\\', 't')
	case c == '\r':
		return append(dst, '\\', 'r')
	case c < 0x20 || c == 0x7f:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, c)
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	return AppendText(make([]byte, 0, len(t)+2), string(t)), nil
}

// UnmarshalJSON implements json.Unmarshaler. A null leaves the text as it is.
func (t *Text) UnmarshalJSON(raw []byte) error {
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	if len(raw) < 2 || raw[0] != '"' {
		return Invalid("expected a string, not %s", clip(raw))
	}
	decoded, err := decodeLiteral(raw[1 : len(raw)-1])
	*t = Text(decoded)
	return err
}

func clip(raw []byte) string {
	if len(raw) > 40 {
		return string(raw[:40]) + "…"
	}
	return string(raw)
}

func decodeLiteral(raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return append([]byte(nil), raw...), nil
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			i++
			continue
		}
		if i+1 >= len(raw) {
			return nil, Invalid("a string ends in the middle of an escape")
		}
		if raw[i+1] != 'u' {
			out = append(out, unescape(raw[i+1]))
			i += 2
			continue
		}
		decoded, used, err := decodeUnicode(out, raw[i:])
		if err != nil {
			return nil, err
		}
		out, i = decoded, i+used
	}
	return out, nil
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

func decodeUnicode(out, raw []byte) ([]byte, int, error) {
	unit, ok := hexUnit(raw)
	if !ok {
		return nil, 0, Invalid("a broken \\u escape in a string")
	}
	if unit >= 0xdc80 && unit <= 0xdcff {
		return append(out, byte(unit)), 6, nil
	}
	if !utf16.IsSurrogate(unit) {
		return utf8.AppendRune(out, unit), 6, nil
	}
	if low, ok := hexUnit(raw[6:]); ok {
		if r := utf16.DecodeRune(unit, low); r != utf8.RuneError {
			return utf8.AppendRune(out, r), 12, nil
		}
	}
	return nil, 0, Invalid("the surrogate \\u%04x stands for no byte", unit)
}

func hexUnit(raw []byte) (rune, bool) {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[2:6]), 16, 32)
	return rune(n), err == nil
}

// Env is an object of texts. Its own decoder exists because encoding/json decodes keys itself and loses raw bytes.
type Env map[string]string

// MarshalJSON implements json.Marshaler.
func (e Env) MarshalJSON() ([]byte, error) {
	dst := []byte{'{'}
	for key, value := range e {
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(AppendText(dst, key), ':')
		dst = AppendText(dst, value)
	}
	return append(dst, '}'), nil
}

// UnmarshalJSON implements json.Unmarshaler; raw is one valid JSON value.
func (e *Env) UnmarshalJSON(raw []byte) error {
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	if len(raw) == 0 || raw[0] != '{' {
		return Invalid("expected an object of strings, not %s", clip(raw))
	}
	found := Env{}
	for i := skip(raw, 1); raw[i] != '}'; {
		key, next, err := literal(raw, i)
		if err != nil {
			return err
		}
		value, next, err := literal(raw, skip(raw, next))
		if err != nil {
			return err
		}
		found[key] = value
		i = skip(raw, next)
	}
	*e = found
	return nil
}

// skip passes over what may stand between the strings of an object.
func skip(raw []byte, i int) int {
	for i < len(raw)-1 && bytes.IndexByte([]byte(" \t\r\n,:"), raw[i]) >= 0 {
		i++
	}
	return i
}

func literal(raw []byte, start int) (string, int, error) {
	if raw[start] != '"' {
		return "", 0, Invalid("expected a string, not %s", clip(raw[start:]))
	}
	end := start + 1
	for raw[end] != '"' {
		if raw[end] == '\\' {
			end++
		}
		end++
	}
	decoded, err := decodeLiteral(raw[start+1 : end])
	return string(decoded), end + 1, err
}

var _ json.Unmarshaler = (*Env)(nil)
