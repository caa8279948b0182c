// Command serve is a guest behind the multiplexer on a unix socket, for tests of the host's end: `serve PATH [--greet]`
// has the whole HTTP API, says "listening" and ends with its standard input.
package main

import (
	"net"
	"os"
	"time"

	"cloche/guest/internal/mux"
	"cloche/guest/internal/mux/muxtest"
	"cloche/guest/internal/output"
	"cloche/guest/internal/procs"
	"cloche/guest/internal/reaper"
	"cloche/guest/internal/server"
	"cloche/guest/internal/users"
)

func main() {
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fatal(err)
	}
	go func() { // standard input is the lifeline
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	streams := mux.Listen(muxtest.NewPort(listener))
	reap := reaper.New()
	manager := procs.NewManager(procs.Config{Book: users.NewBook(true), Reaper: reap, MemoryFD: -1,
		RingBytes: output.DefaultRingBytes})
	api := server.New(server.Config{Manager: manager, Reaper: reap, Version: "test", SandboxID: "sb_mux", Nonce: "n",
		Started: time.Now(), Exit: os.Exit})
	_, _ = os.Stdout.WriteString("listening\n")
	if len(os.Args) > 2 && os.Args[2] == "--greet" {
		go greet(streams)
	}
	fatal(api.Serve(streams))
}

// greet opens a stream to each host, says a word and repeats what it hears.
func greet(streams *mux.Listener) {
	for {
		stream, err := streams.Open()
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		_, _ = stream.Write([]byte("hello from the guest"))
		buf := make([]byte, 64<<10)
		for {
			n, err := stream.Read(buf)
			if err != nil {
				break
			}
			_, _ = stream.Write(buf[:n])
		}
		_ = stream.Close()
	}
}

func fatal(err error) {
	_, _ = os.Stderr.WriteString("serve: " + err.Error() + "\n")
	os.Exit(1)
}
