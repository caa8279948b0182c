"""System calls that no sandbox needs."""

import ctypes
import errno
import os

from probing import Refused, call, leaked, many, probe

BUFFER = ctypes.create_string_buffer(4096)


@probe(safe=True)
def bpf():
    attributes = (ctypes.c_uint32 * 32)(2, 4, 8, 1)  # BPF_MAP_TYPE_ARRAY
    call("bpf", 0, attributes, 72)


@probe(safe=True)
def perf_event_open():
    attributes = (ctypes.c_uint64 * 16)()
    attributes[0] = 1 | (112 << 32)  # PERF_TYPE_SOFTWARE, size
    call("perf_event_open", attributes, 0, -1, -1, 0)


@probe(safe=True)
def userfaultfd():
    call("userfaultfd", 0)


@probe(safe=True)
def io_uring_setup():
    call("io_uring_setup", 2, (ctypes.c_uint64 * 16)())


@probe
def io_uring_enter():
    call("io_uring_enter", 0, 0, 0, 0, 0, 0)


@probe
def io_uring_register():
    call("io_uring_register", 0, 0, 0, 0)


@probe(safe=True)
def keyctl_read_session():
    call("keyctl", 0, -3, 0)


@probe(safe=True)
def keyctl_join():
    call("keyctl", 1, 0)


@probe(safe=True)
def add_key():
    call("add_key", b"user", b"cloche-probe", b"x", 1, -2)


@probe
def request_key():
    call("request_key", b"user", b"cloche-probe", 0, 0)


@probe(safe=True)
def io_setup():
    """Its quota is the whole machine's (fs.aio-max-nr)."""
    call("io_setup", 1, (ctypes.c_ulong * 1)())


@probe(safe=True)
def syslog():
    return leaked(BUFFER.raw[: call("syslog", 3, BUFFER, 4096)])


@probe(safe=True)
def name_to_handle():
    _handle("/usr")


def _handle(path):
    handle = (ctypes.c_uint8 * 136)()
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint32))[0] = 128
    call("name_to_handle_at", -100, path.encode(), handle, (ctypes.c_int * 1)(), 0)
    return handle


@probe(safe=True)
def open_by_handle():
    """The inode of the host's root directory is 2 on ext4: the oldest way out of a container."""
    try:
        handle = _handle("/usr")
    except OSError:
        handle = (ctypes.c_uint8 * 136)(8, 0, 0, 0, 1, 0, 0, 0, 2)
    call("open_by_handle_at", os.open("/usr", os.O_RDONLY), handle, os.O_RDONLY)


#: (arguments) that are wrong, so that nothing happens even where the call is permitted: being refused comes first
REFUSED_OUTRIGHT = {
    "kexec_load": (0, 99, 0, 99),
    "kexec_file_load": (-1, -1, 0, 0, 99),
    "init_module": (0, 0, 0),
    "finit_module": (-1, 0, 0),
    "delete_module": (b"no-such-module", 0o4000),
    "reboot": (1, 2, 3, 0),
    "swapon": (b"/no/such", 0),
    "swapoff": (b"/no/such",),
    "acct": (b"/no/such",),
    "quotactl": (0, 0, 0, 0),
    "quotactl_fd": (-1, 0, 0, 0),
    "settimeofday": (0, 0),
    "adjtimex": (0,),
    "clock_adjtime": (0, 0),
    "clock_settime": (99, 0),
    "iopl": (3,),
    "ioperm": (0x70, 2, 1),
    "modify_ldt": (1, BUFFER, 16),
    "vhangup": (),
    "fanotify_init": (0, 0),
    "lookup_dcookie": (0, BUFFER, 8),
    "setdomainname": (b"x", -1),
    "uselib": (b"/no/such",),
    "process_mrelease": (-1, 0),
    "fspick": (-100, b"/", 0),
    "fsconfig": (-1, 0, 0, 0, 0),
    "lsm_set_self_attr": (0, 0, 0, 0),
    "remap_file_pages": (0, 0, 0, 0, 0),
    "nfsservctl": (0, 0, 0),
    "statmount": (0, 0, 0, 0),
    "ustat": (0, BUFFER),
    "sysfs": (3,),
}


@many("refused_outright", {name: name for name in REFUSED_OUTRIGHT})
def refused_outright(name):
    """Only a refusal by the filter counts: any other error means that the kernel looked at the arguments."""
    try:
        call(name, *REFUSED_OUTRIGHT[name])
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            raise
        return f"the kernel looked at it: {error}"


@probe(safe=True)
def personality_without_randomization():
    call("personality", 0x0040000)


@probe(safe=True)
def personality_read_implies_exec():
    call("personality", 0x0400000)


@probe
def set_the_clock():
    import time

    time.clock_settime(time.CLOCK_REALTIME, time.time() + 0.000001)


@probe
def real_time_priority():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@probe
def higher_priority():
    os.setpriority(os.PRIO_PROCESS, 0, -5)


@probe
def many_inotify_instances():
    """Instances count for the user who owns the namespace, on the host too: a box may have its share and no more."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for count in range(128):
        if libc.inotify_init1(0) < 0:
            raise Refused(f"after {count}")
    return 128


@probe
def many_pending_signals():
    """So do pending real-time signals."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    libc = ctypes.CDLL(None, use_errno=True)
    for count in range(16384):
        if libc.sigqueue(os.getpid(), signal.SIGRTMIN, ctypes.c_void_p(0)) < 0:
            raise Refused(f"after {count}")
    return 16384
