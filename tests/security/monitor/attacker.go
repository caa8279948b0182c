// attacker stands where QEMU would, as if a machine had taken QEMU over, and tries what it must not be able to do. It says
// what came of each try on the first connection to its channel: a line of JSON each, "" for what worked.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	readOnlyFD, writableFD, channelFD, consoleFD = 10, 12, 21, 30
	threadsAt                                    = 8
)

type facts struct {
	Paths   []string `json:"paths"`
	Pids    []int    `json:"pids"`
	Sockets []string `json:"sockets"`
	Linger  bool     `json:"linger"`
}

type try struct {
	Name    string `json:"name"`
	Refused string `json:"refused"` // why, "" when it worked
}

type call func() error

var told facts

// numbers of system calls that are other ones on arm64: those that Go's syscall package does not know
var numbers = map[string]map[string]uintptr{
	"amd64": {"setns": 308, "kcmp": 312, "bpf": 321, "memfd_create": 319, "execveat": 322, "userfaultfd": 323,
		"perf_event_open": 298, "name_to_handle_at": 303, "process_vm_readv": 310, "process_vm_writev": 311, "getrandom": 318},
	"arm64": {"setns": 268, "kcmp": 272, "bpf": 280, "memfd_create": 279, "execveat": 281, "userfaultfd": 282,
		"perf_event_open": 241, "name_to_handle_at": 264, "process_vm_readv": 270, "process_vm_writev": 271, "getrandom": 278},
}[runtime.GOARCH]

func main() {
	if err := json.Unmarshal([]byte(os.Getenv("FACTS")), &told); err != nil {
		panic(err)
	}
	// the signal of a limit on files would be its end
	signal.Ignore(syscall.SIGXFSZ)
	channel, err := accept()
	if err != nil {
		panic(err)
	}
	if told.Linger {
		makeMemoryMine()
	}
	out := json.NewEncoder(channel)
	for _, group := range []map[string]call{allowed(), files(), processes(), network(), privileges(), programs()} {
		for name, attempt := range group {
			said := try{Name: name}
			if err := attempt(); err != nil {
				said.Refused = err.Error()
			}
			_ = out.Encode(said)
		}
	}
	_ = out.Encode(try{Name: "end"})
	for told.Linger {
		time.Sleep(time.Hour)
	}
	threads()
}

// makeMemoryMine does what QEMU does with the RAM of its machine, so that it can be copied.
func makeMemoryMine() {
	fd, err := syscall.Open("/machine/memory", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	memory, err := syscall.Mmap(fd, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	copy(memory, "mine")
}

func accept() (*os.File, error) {
	for {
		fd, _, err := syscall.Accept4(channelFD, syscall.SOCK_CLOEXEC)
		if err != syscall.EINTR {
			return os.NewFile(uintptr(fd), "channel"), err
		}
	}
}

// allowed are the controls: these must work, or the refusals of the others would say nothing.
func allowed() map[string]call {
	return map[string]call{
		"may: read its file":       func() error { _, err := syscall.Pread(readOnlyFD, make([]byte, 4), 0); return err },
		"may: write its file":      func() error { _, err := syscall.Pwrite(writableFD, []byte("here"), 0); return err },
		"may: read its bind":       opens("/machine/memory", syscall.O_RDONLY),
		"may: read its programs":   opens("/vmm/attacker", syscall.O_RDONLY),
		"may: make a hole":         raw(syscall.SYS_FALLOCATE, writableFD, 3, 2048, 1024),
		"may: write to console":    func() error { _, err := syscall.Write(consoleFD, []byte("console\n")); return err },
		"may: see only its own":    onlyItsOwn,
		"may: have only its files": onlyItsDescriptors,
		"may: have no environment": onlyItsEnvironment,
	}
}

func opens(path string, flags int) call {
	return func() error {
		fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0o600)
		if err == nil {
			_ = syscall.Close(fd)
		}
		return err
	}
}

func files() map[string]call {
	found := map[string]call{
		"write to a bind":             opens("/machine/memory", syscall.O_WRONLY),
		"truncate a bind":             opens("/machine/memory", syscall.O_RDWR|syscall.O_TRUNC),
		"write to its program":        opens("/vmm/attacker", syscall.O_WRONLY),
		"make a file in /vmm":         opens("/vmm/new", syscall.O_CREAT|syscall.O_WRONLY),
		"make a file in /":            opens("/new", syscall.O_CREAT|syscall.O_WRONLY),
		"make a file in /dev/shm":     opens("/dev/shm/new", syscall.O_CREAT|syscall.O_WRONLY),
		"make a file without a name":  opens("/dev/shm", 0x400000|syscall.O_DIRECTORY|syscall.O_RDWR),
		"write its read-only file":    func() error { _, err := syscall.Pwrite(readOnlyFD, []byte("x"), 0); return err },
		"truncate its read-only file": func() error { return syscall.Ftruncate(readOnlyFD, 0) },
		"map its read-only file to write": func() error {
			_, err := syscall.Mmap(readOnlyFD, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
			return err
		},
		"grow the file that it may write":             func() error { _, err := syscall.Pwrite(writableFD, []byte("x"), 4096); return err },
		"stretch the file that it may write":          func() error { return syscall.Ftruncate(writableFD, 1<<40) },
		"reserve more for the file that it may write": raw(syscall.SYS_FALLOCATE, writableFD, 0, 0, 1<<20),
		"reserve more behind its end":                 raw(syscall.SYS_FALLOCATE, writableFD, 1, 0, 1<<20),
		"zero more behind its end":                    raw(syscall.SYS_FALLOCATE, writableFD, 0x11, 4096, 1<<20),
		"put more into the file that it may write":    raw(syscall.SYS_FALLOCATE, writableFD, 0x20, 0, 4096),
		"chmod its read-only file":                    func() error { return syscall.Fchmod(readOnlyFD, 0o777) },
		"chown its read-only file":                    func() error { return syscall.Fchown(readOnlyFD, 0, 0) },
		"remove a bind":                               func() error { return syscall.Unlink("/machine/memory") },
		"make a directory":                            func() error { return syscall.Mkdir("/dir", 0o777) },
		"make a device":                               func() error { return syscall.Mknod("/dev/shm/x", syscall.S_IFCHR|0o666, 1<<8|1) },
		"make a link":                                 func() error { return syscall.Symlink("/etc", "/link") },
		"open /dev/kvm":                               opens("/dev/kvm", syscall.O_RDWR),
		"open /dev/mem":                               opens("/dev/mem", syscall.O_RDONLY),
		"write to a sysctl":                           opens("/proc/sys/kernel/core_pattern", syscall.O_WRONLY),
		"set its oom score":                           writes("/proc/self/oom_score_adj", "-1000"),
		"write to /proc/1/mem":                        opens("/proc/1/mem", syscall.O_RDWR),
		"read /proc/kcore":                            reads("/proc/kcore"),
		"read of the kernel's log":                    reads("/proc/kmsg"),
		"open by handle":                              raw(numbers["name_to_handle_at"], ^uintptr(99), 0, 0, 0, 0),
		"see cgroups":                                 opens("/sys/fs/cgroup", syscall.O_RDONLY),
		"see the machine's hardware":                  opens("/sys/class", syscall.O_RDONLY),
	}
	for _, fd := range []int{readOnlyFD, writableFD} {
		found[fmt.Sprintf("open %d again to write", fd)] = opens(fmt.Sprintf("/proc/self/fd/%d", fd), syscall.O_RDWR)
	}
	roots := []string{"", "/proc/1/root", "/proc/self/cwd", "/proc/self/root", "/.."}
	for _, path := range append([]string{"/etc/passwd", "/etc", "/usr", "/root", "/home", "/tmp", "/run", "/var/lib"}, told.Paths...) {
		for _, root := range roots {
			found["see "+root+path] = opens(root+path, syscall.O_RDONLY)
		}
	}
	return found
}

// manyDescriptors: what lies in a socket counts for everybody who has its id, and there it needs one of each.
func manyDescriptors() error {
	var held []int
	defer func() {
		for _, fd := range held {
			_ = syscall.Close(fd)
		}
	}()
	for len(held) < 1000 {
		fd, err := syscall.Dup(readOnlyFD)
		if err != nil {
			return err
		}
		held = append(held, fd)
	}
	return nil
}

// reads: what is covered can be opened and has nothing in it.
func reads(path string) call {
	return func() error {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		n, err := syscall.Read(fd, make([]byte, 64))
		if err == nil && n == 0 {
			return syscall.ENODATA
		}
		return err
	}
}

func raises(resource uintptr, limit uint64) call {
	return func() error {
		wanted := &syscall.Rlimit{Cur: limit, Max: limit}
		_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, resource, uintptr(unsafe.Pointer(wanted)), 0, 0, 0)
		if e != 0 {
			return e
		}
		return nil
	}
}

func writes(path, text string) call {
	return func() error {
		fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		_, err = syscall.Write(fd, []byte(text))
		return err
	}
}

func raw(number uintptr, args ...uintptr) call {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, e := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
			return e
		}
		return nil
	}
}

func processes() map[string]call {
	found := map[string]call{
		"kill everybody":         func() error { return syscall.Kill(-1, syscall.SIGCONT) },
		"signal its parent":      func() error { return syscall.Kill(syscall.Getppid(), syscall.SIGCONT) },
		"trace":                  raw(syscall.SYS_PTRACE, 0, 0, 0, 0),
		"clear its death signal": raw(syscall.SYS_PRCTL, 1, 0),
		"give a child":           raw(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD)),
		"a new user namespace":   raw(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD|syscall.CLONE_NEWUSER)),
		"leave its session":      func() error { _, err := syscall.Setsid(); return err },
	}
	for _, pid := range told.Pids {
		name := "the process " + strconv.Itoa(pid) + " of the host"
		found["signal "+name] = func() error { return syscall.Kill(pid, syscall.SIGCONT) }
		found["signal a thread of "+name] = raw(syscall.SYS_TGKILL, uintptr(pid), uintptr(pid), uintptr(syscall.SIGCONT))
		found["hold "+name] = raw(434, uintptr(pid), 0)
		found["trace "+name] = raw(syscall.SYS_PTRACE, syscall.PTRACE_ATTACH, uintptr(pid))
		found["read "+name] = raw(numbers["process_vm_readv"], uintptr(pid), 0, 0, 0, 0, 0)
		found["write "+name] = raw(numbers["process_vm_writev"], uintptr(pid), 0, 0, 0, 0, 0)
		found["see "+name] = opens("/proc/"+strconv.Itoa(pid)+"/status", syscall.O_RDONLY)
		found["limit "+name] = raw(syscall.SYS_PRLIMIT64, uintptr(pid), 7, 0, uintptr(unsafe.Pointer(&syscall.Rlimit{})))
	}
	return found
}

func network() map[string]call {
	found := map[string]call{
		"a pair of sockets": func() error { _, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); return err },
		"resolve a name":    func() error { _, err := net.LookupHost("localhost.invalid"); return err },
		"bind its channel":  func() error { return syscall.Bind(channelFD, &syscall.SockaddrUnix{Name: "/dev/shm/s"}) },
	}
	for name, family := range map[string]int{"unix": 1, "internet": 2, "internet 6": 10, "netlink": 16, "packet": 17, "alg": 38, "vsock": 40} {
		found["a socket: "+name] = func() error { _, err := syscall.Socket(family, syscall.SOCK_STREAM, 0); return err }
	}
	for _, path := range told.Sockets {
		found["connect to "+path] = func() error { _, err := net.Dial("unix", path); return err }
		// the one kind of socket that it has is no way out
		found["turn its channel to "+path] = func() error { return syscall.Connect(channelFD, &syscall.SockaddrUnix{Name: path}) }
	}
	return found
}

func privileges() map[string]call {
	root, empty := ptr("/"), ptr("")
	return map[string]call{
		"mount":            raw(syscall.SYS_MOUNT, ptr("tmpfs"), ptr("/dev/shm"), ptr("tmpfs"), 0, 0),
		"open a tree":      raw(428, ^uintptr(99), root, 1),
		"mount otherwise":  raw(442, ^uintptr(99), root, 0, empty, 32),
		"unmount":          raw(syscall.SYS_UMOUNT2, ptr("/vmm"), 2),
		"change root":      func() error { return syscall.Chroot("/dev") },
		"turn root":        raw(syscall.SYS_PIVOT_ROOT, root, root),
		"unshare":          func() error { return syscall.Unshare(syscall.CLONE_NEWUSER) },
		"unshare mounts":   func() error { return syscall.Unshare(syscall.CLONE_NEWNS) },
		"enter":            raw(numbers["setns"], readOnlyFD, 0),
		"become root":      func() error { return syscall.Setuid(0) },
		"take groups":      func() error { return syscall.Setgroups([]int{0}) },
		"host name":        func() error { return syscall.Sethostname([]byte("x")) },
		"bpf":              raw(numbers["bpf"], 0, 0, 0),
		"userfaultfd":      raw(numbers["userfaultfd"], 1),
		"io_uring":         raw(425, 8, 0),
		"perf":             raw(numbers["perf_event_open"], 0, 0, 0, 0, 0),
		"keys":             raw(syscall.SYS_KEYCTL, 0, 0, 0),
		"compare":          raw(numbers["kcmp"], 1, 1, 0, 0, 0),
		"the clock":        func() error { return syscall.Settimeofday(&syscall.Timeval{Sec: 1}) },
		"more descriptors": raises(7, 1<<20+7),
		"many descriptors": manyDescriptors,
		"more processes":   raises(6, 1<<20),
		"larger files":     raises(1, 1<<40),
		"a faster share":   func() error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, -5) },
		"other CPUs":       raw(syscall.SYS_SCHED_SETAFFINITY, 0, 8, uintptr(unsafe.Pointer(&[1]uint64{1}))),
		"reboot":           raw(syscall.SYS_REBOOT, 0xfee1dead, 672274793, 0x1234567, 0),
		"type into a tty":  raw(syscall.SYS_IOCTL, 0, 0x5412, ptr("x")),
		"an interface":     raw(syscall.SYS_IOCTL, channelFD, 0x8933, uintptr(unsafe.Pointer(&[40]byte{}))),
		"lock memory":      raw(syscall.SYS_MLOCKALL, 3),
	}
}

func programs() map[string]call {
	found := map[string]call{
		"a program in memory": raw(numbers["memfd_create"], ptr("x"), 0),
		"run a descriptor":    raw(numbers["execveat"], readOnlyFD, ptr(""), 0, 0, 0x1000),
		"run its file":        func() error { return syscall.Exec("/proc/self/fd/12", []string{"x"}, nil) },
		"run its memory":      func() error { return syscall.Exec("/machine/memory", []string{"x"}, nil) },
	}
	for _, path := range []string{"/bin/sh", "/usr/bin/env", "/bin/busybox", "/proc/1/root/bin/sh"} {
		found["run "+path] = func() error { return syscall.Exec(path, []string{"sh", "-c", "id"}, nil) }
	}
	return found
}

func ptr(text string) uintptr {
	p, _ := syscall.BytePtrFromString(text)
	kept = append(kept, p)
	return uintptr(unsafe.Pointer(p))
}

// what the kernel is given as a number must not be collected
var kept []*byte

// onlyItsOwn: whatever it can list is of its own box.
func onlyItsOwn() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if number, err := strconv.Atoi(entry.Name()); err == nil && number != 1 {
			return fmt.Errorf("sees process %d", number)
		}
	}
	interfaces, err := os.ReadFile("/proc/1/net/dev")
	if err == nil && strings.Count(string(interfaces), ":") > 1 {
		return fmt.Errorf("sees interfaces: %s", interfaces)
	}
	if syscall.Getpid() != 1 || syscall.Getppid() != 0 {
		return fmt.Errorf("is process %d of %d", syscall.Getpid(), syscall.Getppid())
	}
	return nil
}

func onlyItsDescriptors() error {
	given := []string{"0", "1", "2", "10", "11", "12", "20", "21", "30"}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		// Go's own, the directory that is being read, and the connection
		own := strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "socket:") || target == ""
		if !slices.Contains(given, entry.Name()) && !own {
			return fmt.Errorf("has %s: %s", entry.Name(), target)
		}
	}
	return nil
}

func onlyItsEnvironment() error {
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "FACTS=") {
			return fmt.Errorf("has %s", entry)
		}
	}
	return nil
}

// threads makes as many as it can and writes down how many there are. Go gives up when there are no more, which is the end
// of this program.
func threads() {
	held := make(chan bool)
	for {
		go func() {
			runtime.LockOSThread()
			held <- true
			select {}
		}()
		<-held
		tasks, _ := os.ReadDir("/proc/self/task")
		_, _ = syscall.Pwrite(writableFD, []byte(fmt.Sprintf("%04d", len(tasks))), threadsAt)
	}
}
