// cloche-launcher makes boxes and watches over them. What it does is chosen by argv[0], as it is executed by itself:
// cloche-launcher (supervisor, and copying of a machine's memory), cloche-init (inside the new namespaces), cloche-save
// (keeps the disk of a box that has ended), cloche-pages (copying, inside the user namespace of the machine).
package main

import (
	"os"
	"runtime"

	"cloche/guest/internal/box"
	"cloche/guest/internal/pages"
)

var version = "dev"

func init() {
	// The main thread is the one that makes the box: the kernel counts a program's memory where that thread is.
	runtime.LockOSThread()
}

func main() {
	switch os.Args[0] {
	case "cloche-init":
		box.InitMain()
	case "cloche-save":
		box.SaveMain()
	}
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		os.Stdout.WriteString(version + "\n")
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "supervise" {
		box.SuperviseMain()
	}
	if len(os.Args) > 1 && os.Args[1] == "pages" {
		pages.Main(os.Args[1:])
	}
	os.Stderr.WriteString("usage: cloche-launcher supervise < PLAN | " + pages.Usage + "\n")
	os.Exit(2)
}
