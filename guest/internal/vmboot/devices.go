package vmboot

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"cloche/guest/internal/mux"
	"cloche/guest/internal/vsock"
)

const (
	portPlace    = "/dev/vport0p1"
	portWithin   = 10 * time.Second
	longestSleep = 20 * time.Millisecond
	mostModules  = 64
)

// loadModules loads what the file `order` names, a name a line. A driver has made its disks when its module is loaded.
// Those of a vsock are named by a file of their own, which a kernel need not have that has them built in; and so are those
// of the redirection and of what it refuses, without any of which a machine is as good but for that.
func loadModules(dir string, vsock bool) error {
	if err := loadOrder(dir, "order"); err != nil {
		return err
	}
	_ = loadOrder(dir, "redirect")
	_ = loadOrder(dir, "refusals")
	if !vsock {
		return nil
	}
	if err := loadOrder(dir, "vsock"); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func loadOrder(dir, file string) error {
	order, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	names, err := moduleNames(string(order))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func moduleNames(order string) ([]string, error) {
	names := strings.Fields(order)
	if len(names) > mostModules {
		return nil, fmt.Errorf("%d modules", len(names))
	}
	for _, name := range names {
		if filepath.Base(name) != name {
			return nil, fmt.Errorf("%q is not the name of a file", name)
		}
	}
	return names, nil
}

func loadModule(place string) error {
	fd, err := syscall.Open(place, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var none [1]byte
	_, _, errno := syscall.Syscall(nrFinitModule, uintptr(fd), uintptr(unsafe.Pointer(&none)), 0)
	if errno != 0 && errno != syscall.EEXIST {
		return errno
	}
	return nil
}

// openConsole makes the last words of this program reach the host: the kernel's console, which is there when its module
// is, or else the kernel's own log.
func openConsole() error {
	fd := -1
	for _, place := range []string{"/dev/console", "/dev/kmsg"} {
		var err error
		if fd, err = syscall.Open(place, syscall.O_WRONLY|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0); err == nil {
			break
		}
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if fd < 0 {
		fd = null
	}
	for to, from := range []int{null, fd, fd} {
		if err := syscall.Dup3(from, to, 0); err != nil {
			return err
		}
	}
	return nil
}

// listen is where the host reaches this machine: a vsock port where it has said one, else the serial port.
func listen(vsockPort uint32) (net.Listener, error) {
	if vsockPort != 0 {
		return vsock.Listen(vsockPort)
	}
	port, err := openPort()
	if err != nil {
		return nil, err
	}
	return mux.Listen(port), nil
}

// openPort waits for the port: the kernel makes it when the host has answered its driver.
func openPort() (*os.File, error) {
	deadline := time.Now().Add(portWithin)
	for sleep := time.Millisecond; ; sleep = min(2*sleep, longestSleep) {
		fd, err := syscall.Open(portPlace, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), portPlace), nil
		}
		if err != syscall.ENOENT && err != syscall.ENXIO && err != syscall.ENODEV || time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: %w", portPlace, err)
		}
		time.Sleep(sleep)
	}
}
