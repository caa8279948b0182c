package contexts

import (
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"cloche/guest/internal/wire"
)

// cleanJSON writes a value anew, so that every reader can take it: no depth, no numbers beyond a double, no surrogates.
// It never builds the value: a few megabytes may have millions of parts, each of which would take many times its text.
func cleanJSON(raw []byte) (clean []byte, ok bool) {
	if !json.Valid(raw) {
		return nil, false
	}
	clean = make([]byte, 0, len(raw))
	depth := 0
	for i := 0; i < len(raw); {
		end := i + 1
		switch c := raw[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		case c == '"':
			end = stringEnd(raw, i)
			clean = cleanString(clean, raw[i:end])
		case c == '-' || c >= '0' && c <= '9':
			end = numberEnd(raw, i)
			if f, err := strconv.ParseFloat(string(raw[i:end]), 64); err != nil || math.IsInf(f, 0) {
				return nil, false
			}
			clean = append(clean, raw[i:end]...)
		default:
			if depth += deeper(c); depth > maxDepth {
				return nil, false
			}
			clean = append(clean, c)
		}
		i = end
	}
	return clean, true
}

func deeper(c byte) int {
	switch c {
	case '[', '{':
		return 1
	case ']', '}':
		return -1
	}
	return 0
}

func stringEnd(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func numberEnd(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == '-' || raw[i] == '+' || raw[i] == '.' || raw[i]|0x20 == 'e' || raw[i] >= '0' && raw[i] <= '9') {
		i++
	}
	return i
}

// cleanString appends a literal; one that is not plain is read and written again, which mends what is no text.
func cleanString(clean, literal []byte) []byte {
	for _, c := range literal {
		if c == '\\' || c >= utf8.RuneSelf {
			var text string
			_ = json.Unmarshal(literal, &text)
			return wire.AppendText(clean, text)
		}
	}
	return append(clean, literal...)
}

// escapedSize is how many bytes wire.AppendText makes of a text.
func escapedSize(text []byte) int {
	size := 2
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c >= utf8.RuneSelf:
			r, width := utf8.DecodeRune(text[i:])
			if size += width; r == utf8.RuneError && width == 1 {
				size += 5
			}
			i += width
			continue
		case c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '\r':
			size++
		case c < 0x20 || c == 0x7f:
			size += 5
		}
		size++
		i++
	}
	return size
}
