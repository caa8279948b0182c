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

func text(line []byte, key, value string) []byte {
	line = append(line, `,"`...)
	line = append(line, key...)
	line = append(line, `":`...)
	return wire.AppendText(line, value)
}

func number(line []byte, key string, value int) []byte {
	line = append(line, `,"`...)
	line = append(line, key...)
	line = append(line, `":`...)
	return strconv.AppendInt(line, int64(value), 10)
}

func seconds(line []byte, key string, value float64) []byte {
	line = append(line, `,"`...)
	line = append(line, key...)
	line = append(line, `":`...)
	return strconv.AppendFloat(line, value, 'f', 6, 64)
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
