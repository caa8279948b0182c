// Package vmboot brings a virtual machine from the kernel's first program to a root in which user code can run: it is
// everything that an init system, udev and a boot loader's initramfs would do, without a program other than this one.
package vmboot

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"cloche/guest/internal/machine"
	"cloche/guest/internal/redirect"
	"cloche/guest/internal/sys"
)

// Booted is what the guest goes on with.
type Booted struct {
	Words   Words
	Machine *machine.Machine
	Port    net.Listener // where the host comes to
	// Redirected: connections to any address arrive at the guest (internal/redirect)
	Redirected bool
	Refusals   int // a socket that tells what the kernel refuses, or -1
}

// Wanted tells whether this program is the first of a virtual machine that was made for it.
func Wanted() (words Words, wanted bool, err error) {
	if os.Getpid() != 1 || os.Args[0] != "/init" {
		return words, false, nil
	}
	if err := syscall.Mount("proc", "/proc", "proc", quiet, ""); err != nil && err != syscall.EBUSY {
		return words, false, nil
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return words, false, nil
	}
	words, err = parseWords(string(line))
	return words, words.Boot || err != nil, err
}

// Boot does it. After an error the machine is of no use.
func Boot(words Words) (*Booted, error) {
	booted := &Booted{Words: words, Machine: &machine.Machine{}}
	steps := []struct {
		name string
		do   func() error
	}{
		{"devices", func() error { return mountAll(early) }},
		{"modules", func() error { return loadModules("/modules", words.Vsock != 0) }},
		{"console", openConsole},
		{"root", func() (err error) { booted.Machine.Disk, err = mountRoot(); return err }},
		{"initramfs", dropInitramfs},
		{"switch of the root", switchRoot},
		{"directories", makeDirectories},
		{"mounts", func() error { return mountAll(late) }},
		{"/dev", finishDev},
		{"user", func() error { return addUser("/etc/passwd", "/etc/group") }},
		{"loopback", sys.LoopbackUp},
		{"network", func() error { booted.redirect(); return nil }},
		{"resolver", func() error { askThisMachine("/etc/resolv.conf"); return nil }},
		{"limits", raiseLimits},
		{"cgroup", func() (err error) { booted.Machine.Group, err = machine.MakeGroup(words.Limits); return err }},
		{"port", func() (err error) { booted.Port, err = listen(words.Vsock); return err }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("boot: %s: %w", step.name, err)
		}
	}
	return booted, nil
}

func (b *Booted) redirect() {
	refusals, err := redirect.Install()
	b.Redirected, b.Refusals = err == nil, refusals
}
