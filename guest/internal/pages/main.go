// Package pages copies the memory that a virtual machine monitor has made its own of a private mapping of its RAM file,
// out of it and into it. It is part of the launcher because an ordinary user must enter the monitor's user namespace for
// that, which only a program without other threads may.
package pages

import (
	"encoding/json"
	"os"
	"strconv"
	"syscall"

	"cloche/guest/internal/stages"
)

const (
	baseFD  = 3
	pagesFD = 4
	// argv[0] of this program once it is in the user namespace of the process
	insideName = "cloche-pages"
)

// Report is the line on standard output.
type Report struct {
	OK      bool          `json:"ok"`
	Pages   int64         `json:"pages"`
	Extents int64         `json:"extents"`
	Failure *stages.Error `json:"failure,omitempty"`
}

// Usage is what Main takes.
const Usage = "pages save|load --pid PID   (descriptor 3: the RAM file, 4: the pages file)"

// Main runs `pages OP --pid PID` and never returns: exit status 0 when all was copied, 1 when not, 2 for other arguments.
func Main(args []string) {
	if len(args) != 4 || args[0] != "pages" || args[2] != "--pid" {
		fail(2, stages.Off("arguments", "usage: %s", Usage))
	}
	pid, err := strconv.Atoi(args[3])
	operation := map[string]func(pid, base, pages int) (Counts, error){"save": Save, "load": Load}[args[1]]
	if err != nil || pid <= 0 || operation == nil {
		fail(2, stages.Off("arguments", "usage: %s", Usage))
	}
	counts, err := operation(pid, baseFD, pagesFD)
	if failure, _ := err.(*stages.Error); failure != nil {
		if syscall.Errno(failure.Errno) == syscall.EACCES && os.Args[0] != insideName {
			os.Exit(enter(pid, append([]string{insideName}, args...)))
		}
		fail(1, failure)
	}
	tell(Report{OK: true, Pages: counts.Pages, Extents: counts.Extents})
	os.Exit(0)
}

func tell(r Report) {
	body, _ := json.Marshal(r)
	_, _ = os.Stdout.Write(append(body, '\n'))
}

func fail(status int, err error) {
	tell(Report{Failure: stages.Of("pages", err).(*stages.Error)})
	os.Exit(status)
}
