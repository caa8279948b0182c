package contexts

import (
	"bytes"
	"sort"
	"strings"

	"cloche/guest/internal/wire"
)

const (
	maxTypes     = 64
	maxTypeChars = 128
	maxMetadata  = 1 << 20
	maxDepth     = 64
	maxLeftOut   = 64
	maxName      = 1 << 10
	maxMessage   = 1 << 20
	bundleFrame  = 64 << 10 // what the event holds beside its representations
)

// shown is one representation, as JSON.
type shown struct {
	kind  string
	value []byte
}

// resultEvent reads what a program says a value looks like; nil when it is no bundle.
func resultEvent(role string, payload []byte) func(int) []byte {
	parts := fields(payload, 2+2*maxTypes)
	if len(parts) < 2 || len(parts)%2 != 0 {
		return nil
	}
	metadata := []byte("{}")
	if len(parts[0]) > 0 && len(parts[0]) <= maxMetadata {
		if clean, ok := cleanJSON(parts[0]); ok && clean[0] == '{' {
			metadata = clean
		}
	}
	all, leftOut := representations(parts[2:])
	all, leftOut = countable(all, leftOut, bytes.Count(metadata, keyEnd))
	for _, name := range strings.Split(string(parts[1]), "\n") {
		if isType(name) && len(leftOut) < maxLeftOut {
			leftOut = append(leftOut, name)
		}
	}
	all, leftOut = fit(all, leftOut, wire.MaxEvent-bundleFrame-len(metadata))
	return func(seq int) []byte { return writeResult(seq, role, all, metadata, leftOut) }
}

func representations(parts [][]byte) (all []shown, leftOut []string) {
	seen := map[string]bool{}
	for i := 0; i < len(parts); i += 2 {
		kind := string(parts[i])
		if !isType(kind) || seen[kind] {
			continue
		}
		seen[kind] = true
		if !isJSON(kind) {
			if size := escapedSize(parts[i+1]); size > wire.MaxEvent {
				leftOut = append(leftOut, kind)
			} else {
				all = append(all, shown{kind, wire.AppendText(make([]byte, 0, size), string(parts[i+1]))})
			}
		} else if clean, ok := cleanJSON(parts[i+1]); ok {
			all = append(all, shown{kind, clean})
		} else {
			leftOut = append(leftOut, kind)
		}
	}
	return all, leftOut
}

// keyEnd is at the end of every key. The host counts these, and what parts a value, before it decodes anything.
var keyEnd = []byte(`":`)

// parts is at least how many values a reader makes of it.
func (s shown) parts() (count int) {
	if !isJSON(s.kind) {
		return 0
	}
	for _, sign := range []string{",", "[", "{"} {
		count += bytes.Count(s.value, []byte(sign))
	}
	return count
}

// countable leaves out what has more parts than the host takes.
func countable(all []shown, leftOut []string, keys int) ([]shown, []string) {
	kept := all[:0]
	for _, item := range all {
		more := bytes.Count(item.value, keyEnd)
		if item.parts() > wire.MaxItems || keys+more > wire.MaxItems-maxTypes {
			leftOut = append(leftOut, item.kind)
			continue
		}
		keys += more
		kept = append(kept, item)
	}
	return kept, leftOut
}

// fit leaves the largest out until the rest is small enough.
func fit(all []shown, leftOut []string, room int) ([]shown, []string) {
	total := 0
	bySize := append([]shown(nil), all...)
	sort.SliceStable(bySize, func(i, j int) bool { return len(bySize[i].value) > len(bySize[j].value) })
	for _, item := range all {
		total += len(item.value)
	}
	gone := map[string]bool{}
	for _, item := range bySize {
		if total > room {
			total -= len(item.value)
			gone[item.kind], leftOut = true, append(leftOut, item.kind)
		}
	}
	kept := all[:0]
	for _, item := range all {
		if !gone[item.kind] {
			kept = append(kept, item)
		}
	}
	return kept, leftOut
}

func writeResult(seq int, role string, all []shown, metadata []byte, leftOut []string) []byte {
	size := 160 + len(metadata)
	for _, item := range all {
		size += len(item.kind) + len(item.value) + 8
	}
	line := append(append(make([]byte, 0, size), text(begin("result", seq), "kind", role)...), `,"data":{`...)
	for i, item := range all {
		if i > 0 {
			line = append(line, ',')
		}
		line = append(wire.AppendText(line, item.kind), ':')
		line = append(line, item.value...)
	}
	line = append(append(line, `},"metadata":`...), metadata...)
	return finished(appendLeftOut(line, leftOut))
}

func appendLeftOut(line []byte, names []string) []byte {
	if len(names) == 0 {
		return line
	}
	line = append(line, `,"left_out":[`...)
	for i, name := range names {
		if i > 0 {
			line = append(line, ',')
		}
		line = wire.AppendText(line, name)
	}
	return append(line, ']')
}

// isJSON tells whether a representation of this type is a value and not a text.
func isJSON(kind string) bool { return strings.HasSuffix(kind, "json") }

// isType tells whether a name could be a MIME type: printable ASCII, with a slash.
func isType(name string) bool {
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == '"' || name[i] == '\\' {
			return false
		}
	}
	return len(name) <= maxTypeChars && strings.Contains(name, "/")
}

// problem reads what a program says its code raised.
func problem(payload []byte) (name, message, traceback string, ok bool) {
	parts := fields(payload, 3)
	if len(parts) != 3 {
		return "", "", "", false
	}
	return clip(parts[0], maxName), clip(parts[1], maxMessage), clip(parts[2], maxMessage), true
}

// clip keeps the beginning and the end of what is too long.
func clip(raw []byte, most int) string {
	if len(raw) <= most {
		return string(raw)
	}
	return string(raw[:most/2]) + " … " + string(raw[len(raw)-most/2:])
}
