// A stand-in for Firecracker in its box: it has the box's rights and nobody's machine. What it is asked on its two sockets
// it passes on to sockets beside them, behind which a test answers. First it tries what Firecracker needs, and what it may
// not have.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	directory = "/fc"
	patience  = 20 * time.Second
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Print("Firecracker v1.8.0\n\n")
		return
	}
	if len(os.Args) != 7 || os.Args[1] != "--id" || os.Args[5] != "--api-sock" || os.Args[6] != directory+"/api.sock" {
		fail("arguments", fmt.Errorf("%q", os.Args))
	}
	tryNeeds()
	tryRefused()
	go serve("vsock.sock", 0)
	serve("api.sock", patience)
}

func fail(what string, err error) {
	fmt.Printf("stand-in: %s: %v\n", what, err)
	os.Exit(3)
}

func tryNeeds() {
	for place, flags := range map[string]int{
		"/dev/kvm": os.O_RDWR, "/machine/root": os.O_RDONLY, "/machine/disk": os.O_RDWR, directory + "/made": os.O_RDWR | os.O_CREATE,
	} {
		file, err := os.OpenFile(place, flags, 0o644)
		if err != nil {
			fail("needs", err)
		}
		_ = file.Close()
	}
	_, kernel := os.Stat("/machine/kernel")
	_, memory := os.Stat("/machine/memory")
	if (kernel == nil) == (memory == nil) {
		fail("needs", fmt.Errorf("either a kernel or a memory: %v, %v", kernel, memory))
	}
}

func tryRefused() {
	for _, place := range []string{"/machine/root", "/machine/kernel", "/machine/memory", "/vmm/firecracker"} {
		if file, err := os.OpenFile(place, os.O_RDWR, 0); err == nil {
			_ = file.Close()
			fail("may not", fmt.Errorf("write to %s", place))
		}
	}
	for _, family := range []int{syscall.AF_INET, syscall.AF_NETLINK, syscall.AF_PACKET} {
		if fd, err := syscall.Socket(family, syscall.SOCK_RAW, 0); err == nil {
			_ = syscall.Close(fd)
			fail("may not", fmt.Errorf("make a socket of family %d", family))
		}
	}
	if syscall.Unlink(directory+"/made") == nil || os.Mkdir(directory+"/more", 0o700) == nil {
		fail("may not", fmt.Errorf("change names"))
	}
	if _, err := os.StartProcess("/vmm/firecracker", []string{"x"}, &os.ProcAttr{}); err == nil {
		fail("may not", fmt.Errorf("start a process"))
	}
}

func serve(name string, wait time.Duration) {
	listener, err := net.Listen("unix", directory+"/"+name)
	if err != nil {
		fail("sockets", err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			fail("sockets", err)
		}
		go pass(conn.(*net.UnixConn), directory+"/outside-"+name, wait)
	}
}

func pass(inner *net.UnixConn, place string, wait time.Duration) {
	defer inner.Close()
	outer, err := net.Dial("unix", place)
	for until := time.Now().Add(wait); err != nil && time.Now().Before(until); outer, err = net.Dial("unix", place) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return
	}
	defer outer.Close()
	go carry(outer.(*net.UnixConn), inner)
	carry(inner, outer.(*net.UnixConn))
}

func carry(to, from *net.UnixConn) {
	_, _ = io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
	_ = to.CloseWrite()
	_ = from.CloseRead()
}
