package seccomp

import "syscall"

// vmmCalls is what a virtual machine monitor needs (QEMU 10 with TCG or KVM), seen with strace: its memory, threads,
// clocks and open descriptors. It makes no socket, no process but threads, no file system change, and signals nobody else.
var vmmCalls = []string{
	// memory
	"brk", "mmap", "mprotect", "munmap", "mremap", "madvise", "msync", "mincore", "membarrier", "mseal",
	// open descriptors
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "lseek", "close",
	"dup", "dup2", "dup3", "fcntl", "ioctl", "fstat", "fstatfs", "fsync", "fdatasync", "fallocate", "ftruncate", "fadvise64",
	"sync_file_range", "pipe2", "eventfd2", "signalfd4", "timerfd_create", "timerfd_settime", "timerfd_gettime",
	"poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
	// connections that come in
	"accept", "accept4", "listen", "getsockname", "getpeername", "getsockopt", "setsockopt", "recvfrom", "recvmsg", "sendto",
	"sendmsg", "shutdown",
	// paths: what there is of them is the box's, and Landlock's
	"open", "openat", "openat2", "access", "faccessat", "faccessat2", "stat", "lstat", "newfstatat", "statx", "statfs",
	"readlink", "readlinkat", "getdents64", "getcwd", "umask",
	// threads and their signals
	"clone", "clone3", "exit", "exit_group", "futex", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue",
	"set_tid_address", "set_robust_list", "rseq", "gettid", "getpid", "getppid", "tgkill", "sched_yield", "sched_getaffinity",
	"getcpu", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend",
	"sigaltstack", "restart_syscall", "pause", "arch_prctl", "prctl",
	// clocks and facts
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times", "getrandom", "uname",
	"sysinfo", "getrlimit", "getrusage", "prlimit64", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid",
	"getresgid", "getpgrp", "getpgid", "getsid", "capget",
	// the filter comes before the exec of the monitor itself, and the monitor has a filter of its own
	"execve", "seccomp",
}

const (
	threadFlag     = 0x10000 // CLONE_THREAD
	kvmIoctls      = 0xae00
	ioctlTypeMask  = 0xff00
	prSetSeccomp   = 22
	prSetName      = 15
	prGetName      = 16
	prGetDumpable  = 3
	prSetDumpable  = 4
	prCapbsetRead  = 23
	prSetTimerSlak = 29
	prGetNNP       = 39
	prSetNNP       = 38
	prMceKill      = 33
	prSetVMA       = 0x53564d41
)

// what QEMU asks of descriptors to learn what they are; the answer for all others is that they are not that.
var vmmIoctls = []uint32{0x5401 /* TCGETS */, 0x5413 /* TIOCGWINSZ */, 0x541b /* FIONREAD */, 0x5421 /* FIONBIO */}

// a parent death signal that was taken back would let the monitor outlive its supervisor
var vmmPrctls = []uint32{prSetSeccomp, prSetName, prGetName, prGetDumpable, prSetDumpable, prCapbsetRead, prSetTimerSlak,
	prGetNNP, prSetNNP, prMceKill, prSetVMA}

// socketCalls is what a monitor needs beside that which makes its own unix sockets (Firecracker): for its API, its
// machine's vsock, and a connection that the machine begins. Its C library signals a thread by tkill, to itself and its
// own as everything in its pid namespace is.
var socketCalls = []string{"socket", "bind", "connect", "tkill"}

// Space beyond the end of a file is bounded by no limit, nor is what is put in between.
var vmmFallocates = []uint32{0, 3 /* a hole: PUNCH_HOLE | KEEP_SIZE */, 0x10 /* ZERO_RANGE */}

// VMM is the filter for a virtual machine monitor, much narrower than the one for what people run.
func VMM() []Instruction {
	return assemble(vmmTable(vmmCalls), vmmSpecials())
}

// SocketVMM is the same for a monitor that makes unix sockets, and none of another family.
func SocketVMM() []Instruction {
	specials := vmmSpecials()
	specials["socket"] = oneOf(0, []uint32{afUnix}, syscall.EAFNOSUPPORT)
	return assemble(vmmTable(append(socketCalls, vmmCalls...)), specials)
}

func vmmTable(names []string) map[string]uint32 {
	table := map[string]uint32{}
	for _, name := range names {
		if number, here := allowed[name]; here {
			table[name] = number
		}
	}
	return table
}

func vmmSpecials() map[string][]Instruction {
	return map[string][]Instruction{
		"clone3": {answer(errno(syscall.ENOSYS))},
		"clone": {load(argLow(0)), jump(jset, namespaceFlags, 1, 0), jump(jset, threadFlag, 1, 0), answer(errno(syscall.EPERM)),
			answer(retAllow)},
		"ioctl":     vmmIoctlBody(),
		"prctl":     oneOf(0, vmmPrctls, syscall.EPERM),
		"prlimit64": prlimitBody(),
		"fallocate": oneOf(1, vmmFallocates, syscall.EOPNOTSUPP),
	}
}

func vmmIoctlBody() []Instruction {
	// a number is direction, size, type and what: all with KVM's type are KVM's
	body := []Instruction{load(argLow(1))}
	for i, number := range vmmIoctls {
		body = append(body, jump(jeq, number, uint8(len(vmmIoctls)-i+2), 0))
	}
	return append(body, Instruction{andK, 0, 0, ioctlTypeMask}, jump(jeq, kvmIoctls, 1, 0), answer(errno(syscall.ENOTTY)),
		answer(retAllow))
}
