"""Write the seccomp allow-list's system call numbers (guest/internal/seccomp/table_*.go).

Numbers come from the Go distribution's own `syscall` package and, from 424 on, from the list below: since Linux 5.1 new
system calls have the same number on every architecture (include/uapi/asm-generic/unistd.h).

    python3 scripts/generate_syscalls.py GOROOT
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ALLOWED = """
accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown clock_getres clock_gettime
clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl
epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group
faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr
flistxattr flock fork fremovexattr fsetxattr fstat fstatat fstatfs fsync ftruncate futex futex_requeue futex_wait
futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer
get_mempolicy getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getxattr
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents ioprio_get
io_setup io_submit kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat
listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack mbind membarrier memfd_create
memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep
newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
ppoll prctl pread64 preadv preadv2 pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom
recvmmsg recvmsg removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity
sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto setfsgid setfsuid setgid
setgroups setitimer set_mempolicy setpgid setregid setresgid setresuid setreuid setrlimit set_robust_list setsid
setsockopt set_thread_area set_tid_address setuid setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd
signalfd4 splice stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
timer_create timer_delete timerfd_create timerfd_gettime timerfd_settime timer_getoverrun timer_gettime timer_settime
times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev
sched_setattr sched_setaffinity sched_setparam sched_setscheduler setpriority ioprio_set
clone clone3 ioctl personality prlimit64 socket socketpair
""".split()

UNIFIED = {
    "pidfd_send_signal": 424, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "faccessat2": 439,
    "epoll_pwait2": 441, "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
    "memfd_secret": 447, "futex_waitv": 449, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454,
    "futex_wait": 455, "futex_requeue": 456, "mseal": 462,
}
#: what the Go package of each architecture lacks (arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h)
EXTRA = {
    "amd64": {"sched_setattr": 314, "sched_getattr": 315, "renameat2": 316, "seccomp": 317, "getrandom": 318,
              "memfd_create": 319, "execveat": 322, "membarrier": 324, "mlock2": 325, "copy_file_range": 326,
              "preadv2": 327, "pwritev2": 328, "pkey_mprotect": 329, "pkey_alloc": 330, "pkey_free": 331, "statx": 332,
              "io_pgetevents": 333, "rseq": 334, "sendmmsg": 307, "syncfs": 306, "getcpu": 309},
    "arm64": {"sched_setattr": 274, "sched_getattr": 275, "renameat2": 276, "seccomp": 277, "getrandom": 278,
              "memfd_create": 279, "execveat": 281, "membarrier": 283, "mlock2": 284, "copy_file_range": 285,
              "preadv2": 286, "pwritev2": 287, "pkey_mprotect": 288, "pkey_alloc": 289, "pkey_free": 290, "statx": 291,
              "io_pgetevents": 292, "rseq": 293, "sendmmsg": 269, "syncfs": 267, "getcpu": 168, "newfstatat": 79},
}


def numbers(goroot: Path, arch: str) -> dict[str, int]:
    text = (goroot / "src/syscall" / f"zsysnum_linux_{arch}.go").read_text()
    found = {name.lower(): int(number) for name, number in re.findall(r"SYS_(\w+)\s*=\s*(\d+)", text)}
    return found | EXTRA[arch] | UNIFIED


def render(arch: str, table: dict[str, int]) -> str:
    rows = sorted((table[name], name) for name in set(ALLOWED) if name in table)
    width = max(len(name) for _, name in rows) + 3
    lines = [f"\t{chr(34) + name + chr(34) + ':':<{width}} {number}," for number, name in rows]
    return ("// Code generated by scripts/generate_syscalls.py; DO NOT EDIT.\n\npackage seccomp\n\n"
            "// allowed: every other system call is refused.\nvar allowed = map[string]uint32{\n" + "\n".join(lines) + "\n}\n")


def main() -> None:
    goroot, out = Path(sys.argv[1]), Path(__file__).parent.parent / "guest/internal/seccomp"
    for arch in ("amd64", "arm64"):
        (out / f"table_{arch}.go").write_text(render(arch, numbers(goroot, arch)))


if __name__ == "__main__":
    main()
