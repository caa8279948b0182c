package seccomp

import (
	"syscall"
	"testing"
)

func TestAMonitorMayOnlyWhatGuestsMayToo(t *testing.T) {
	for _, name := range vmmCalls {
		if number, here := allowed[name]; here && vmmTable(vmmCalls)[name] != number {
			t.Errorf("%s", name)
		}
	}
	for name := range vmmSpecials() {
		if _, here := vmmTable(vmmCalls)[name]; !here {
			t.Errorf("%s has rules and is not in the list", name)
		}
	}
}

func TestWhatAMonitorMayNotDo(t *testing.T) {
	program, perm := VMM(), errno(syscall.EPERM)
	refused := []string{"socket", "connect", "bind", "socketpair", "fork", "vfork", "kill", "tkill", "pidfd_open",
		"pidfd_send_signal", "setuid", "setresuid", "setgroups", "memfd_create", "execveat", "unlink", "unlinkat", "mkdirat", "rename",
		"chmod", "fchmod", "chown", "shmget", "mq_open", "setsid", "sched_setscheduler", "setpriority", "landlock_create_ruleset",
		"inotify_init1", "personality", "io_setup", "setrlimit", "capset", "mknodat", "symlinkat", "linkat"}
	for _, name := range refused {
		number, here := allowed[name]
		if !here {
			continue
		}
		if got := evaluate(t, program, nativeArch(), number); got != perm {
			t.Errorf("%s: %#x", name, got)
		}
	}
}

func TestArgumentsOfAMonitor(t *testing.T) {
	perm, allow, notThat := errno(syscall.EPERM), uint32(retAllow), errno(syscall.ENOTTY)
	cases := []struct {
		name string
		args []uint64
		want uint32
	}{
		{"clone", []uint64{uint64(syscall.SIGCHLD)}, perm},
		{"clone", []uint64{threadFlag | syscall.CLONE_VM | syscall.CLONE_SIGHAND}, allow},
		{"clone", []uint64{threadFlag | syscall.CLONE_NEWNET}, perm},
		{"clone3", nil, errno(syscall.ENOSYS)},
		{"ioctl", []uint64{3, 0xae80}, allow},
		{"ioctl", []uint64{3, 0x4040ae46}, allow},
		{"ioctl", []uint64{3, 0x5401}, allow},
		{"ioctl", []uint64{3, 0x5421}, allow},
		{"ioctl", []uint64{3, 0x5412}, notThat},
		{"ioctl", []uint64{3, 0x8912}, notThat},
		{"prctl", []uint64{15}, allow},
		{"prctl", []uint64{22}, allow},
		{"prctl", []uint64{1, 0}, perm},
		{"prctl", []uint64{36, 1}, perm},
		{"prlimit64", []uint64{0, 7, 1}, allow},
		{"prlimit64", []uint64{7, 7, 1}, perm},
		{"read", nil, allow},
		{"execve", nil, allow},
	}
	for _, c := range cases {
		if got := evaluate(t, VMM(), nativeArch(), allowed[c.name], c.args...); got != c.want {
			t.Errorf("%s%v: got %#x, want %#x", c.name, c.args, got, c.want)
		}
	}
}

func TestForeignArchitecturesAreRefusedForAMonitor(t *testing.T) {
	if got := evaluate(t, VMM(), 0x40000003, 1); got != errno(syscall.ENOSYS) {
		t.Errorf("i386: %#x", got)
	}
}

func TestAMonitorWithSockets(t *testing.T) {
	perm, allow := errno(syscall.EPERM), uint32(retAllow)
	program := SocketVMM()
	for _, c := range []struct {
		name string
		args []uint64
		want uint32
	}{
		{"socket", []uint64{syscall.AF_UNIX, syscall.SOCK_STREAM}, allow},
		{"socket", []uint64{syscall.AF_INET, syscall.SOCK_STREAM}, errno(syscall.EAFNOSUPPORT)},
		{"socket", []uint64{syscall.AF_NETLINK, syscall.SOCK_RAW}, errno(syscall.EAFNOSUPPORT)},
		{"socket", []uint64{40, syscall.SOCK_STREAM}, errno(syscall.EAFNOSUPPORT)},
		{"bind", nil, allow},
		{"connect", nil, allow},
		{"tkill", nil, allow},
		{"clone", []uint64{uint64(syscall.SIGCHLD)}, perm},
		{"kill", nil, perm},
		{"unlinkat", nil, perm},
		{"fchmodat", nil, perm},
		{"renameat", nil, perm},
		{"memfd_create", nil, perm},
	} {
		if got := evaluate(t, program, nativeArch(), allowed[c.name], c.args...); got != c.want {
			t.Errorf("%s%v: got %#x, want %#x", c.name, c.args, got, c.want)
		}
	}
}
