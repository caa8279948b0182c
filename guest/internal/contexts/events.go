package contexts

import (
	"strconv"

	"cloche/guest/internal/wire"
)

// Events are written by hand: an execution of one expression has four, and reflection would cost more than it runs.

func begin(kind string, seq int) []byte {
	line := append(make([]byte, 0, 160), `{"type":"`...)
	line = append(line, kind...)
	line = append(line, `","seq":`...)
	return strconv.AppendInt(line, int64(seq), 10)
}

// named appends the key of the value that comes next.
func named(line []byte, key string) []byte {
	line = append(append(line, `,"`...), key...)
	return append(line, `":`...)
}

func text(line []byte, key, value string) []byte {
	return wire.AppendText(named(line, key), value)
}

func number(line []byte, key string, value int) []byte {
	return strconv.AppendInt(named(line, key), int64(value), 10)
}

func seconds(line []byte, key string, value float64) []byte {
	return strconv.AppendFloat(named(line, key), value, 'f', 6, 64)
}

func finished(line []byte) []byte { return append(line, '}', '\n') }

func acceptedEvent(x *Execution, context, language string, ahead int) func(int) []byte {
	return func(seq int) []byte {
		line := text(begin("accepted", seq), "execution_id", x.id)
		line = text(text(line, "context_id", context), "language", language)
		return finished(number(line, "ahead", ahead))
	}
}

func startedEvent(n int, at float64) func(int) []byte {
	return func(seq int) []byte {
		return finished(seconds(number(begin("started", seq), "number", n), "at", at))
	}
}

func outputEvent(stream, data string) func(int) []byte {
	return func(seq int) []byte {
		return finished(text(text(begin("output", seq), "stream", stream), "text", data))
	}
}

func errorEvent(name, message, traceback string) func(int) []byte {
	return func(seq int) []byte {
		line := text(text(begin("error", seq), "name", name), "message", message)
		return finished(text(line, "traceback", traceback))
	}
}

func endedEvent(status string, kept bool, wall float64, limit string) func(int) []byte {
	return func(seq int) []byte {
		line := text(begin("ended", seq), "status", status)
		line = append(line, `,"state_kept":`...)
		line = seconds(strconv.AppendBool(line, kept), "wall_seconds", wall)
		if limit != "" {
			line = text(line, "limit_hit", limit)
		}
		return finished(line)
	}
}

func appendGap(dst []byte, seq, lost int) []byte {
	return append(dst, finished(number(begin("gap", seq), "lost_events", lost))...)
}
