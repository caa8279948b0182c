package contexts

import (
	"fmt"
	"strings"
)

// bash has no way to be interrupted but an interactive one's, which returns it to its input. So its input is not
// /dev/null but what the guest writes, and every piece of code gets /dev/null instead.
func bashArgv(path string) []string {
	return []string{path, "--norc", "--noprofile", "--noediting", "-i"}
}

// bash has no frames to read: it is given lines of its own language, quoted so that no code can leave its quotes.

func bashCode(number int, code string) []byte {
	return []byte(fmt.Sprintf("__cloche_code=%s\n__cloche_again\neval -- \"$__cloche_code\" </dev/null\n__cloche_done %d\n", quoted(code), number))
}

func bashEnv(changes []string) []byte {
	var lines strings.Builder
	for _, change := range changes {
		name, value, set := strings.Cut(change, "=")
		switch {
		case !isName(name):
		case set:
			fmt.Fprintf(&lines, "export %s=%s\n", name, quoted(value))
		default:
			fmt.Fprintf(&lines, "unset %s\n", name)
		}
	}
	return []byte(lines.String())
}

func bashDir(cwd string) []byte { return []byte("cd -- " + quoted(cwd) + "\n") }

func bashRefuses(code string) string {
	if strings.IndexByte(code, 0) >= 0 {
		return "bash cannot read code with NUL in it"
	}
	return ""
}

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func isName(name string) bool {
	for i, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
