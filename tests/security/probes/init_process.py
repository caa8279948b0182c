"""Attacks on PID 1. Signals from inside may be swallowed without an error, so surviving unchanged is the refusal."""

import ctypes
import fcntl
import os
import signal
import struct

from probing import Refused, call, libc, many, probe, write

LIMITS = {"as": 9, "nofile": 7, "nproc": 6, "stack": 3, "data": 2, "fsize": 1, "rttime": 15}
FORGED = {"user": 0, "kernel": 0x80, "tkill": -6, "queue": -1, "timer": -2, "message": -3, "segv": 1}


def unharmed(pid=1):
    """Alive and not stopped, as the kernel sees it."""
    with open(f"/proc/{pid}/stat") as file:
        state = file.read().rpartition(")")[2].split()[0]
    if state in "TtZX":
        return f"PID {pid} is in state {state}"
    raise Refused("PID 1 does not care")


def _ignored(send):
    """Send, take any refusal for what it is, and look at PID 1."""
    try:
        send()
    except OSError:
        pass
    os.sched_yield()
    return unharmed()


@many("kill", {str(number): number for number in range(1, 65)})
def kill(number):
    return _ignored(lambda: libc.kill(1, number))


@many("tgkill", {str(number): number for number in (2, 3, 6, 9, 11, 15, 17, 19, 23, 27, 31, 32, 33, 34, 64)})
def tgkill(number):
    for thread in os.listdir("/proc/1/task"):
        _ignored_quietly(int(thread), number)
    return unharmed()


def _ignored_quietly(thread, number):
    try:
        call("tgkill", 1, thread, number)
    except OSError:
        pass


@many("rt_sigqueueinfo", FORGED)
def rt_sigqueueinfo(code):
    for number in (9, 11, 19, 27, 23, 64):
        info = ctypes.create_string_buffer(struct.pack("iii", number, 0, code), 128)
        try:
            call("rt_sigqueueinfo", 1, number, info)
        except OSError:
            pass
    return unharmed()


@many("rt_tgsigqueueinfo", FORGED)
def rt_tgsigqueueinfo(code):
    for thread in os.listdir("/proc/1/task"):
        info = ctypes.create_string_buffer(struct.pack("iii", 11, 0, code), 128)
        try:
            call("rt_tgsigqueueinfo", 1, int(thread), 11, info)
        except OSError:
            pass
    return unharmed()


@probe
def pidfd_send_signal():
    init = os.pidfd_open(1)
    for number in range(1, 65):
        try:
            signal.pidfd_send_signal(init, number)
        except OSError:
            continue
    return unharmed()


def _owned(owner, number):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, 10, number)  # F_SETSIG
    fcntl.fcntl(reader, *owner)
    flags = fcntl.fcntl(reader, fcntl.F_GETFL)
    fcntl.fcntl(reader, fcntl.F_SETFL, flags | os.O_ASYNC)
    for _ in range(8):
        os.write(writer, b"x")
        os.read(reader, 1)


@many("signal_by_owner", {str(number): number for number in (4, 6, 7, 8, 9, 11, 19, 23, 27, 29, 31, 64)})
def signal_by_owner(number):
    """A descriptor's owner gets signals from the kernel itself."""
    return _ignored(lambda: _owned((fcntl.F_SETOWN, 1), number))


@many("signal_by_owner_thread", {str(number): number for number in (9, 11, 19)})
def signal_by_owner_thread(number):
    for kind, owner in ((0, int(max(os.listdir("/proc/1/task"), key=int))), (1, 1), (2, 1)):
        try:
            _owned((15, struct.pack("ii", kind, owner)), number)  # F_SETOWN_EX
        except OSError:
            continue
    return unharmed()


@probe
def kill_everybody():
    """The others are the probes themselves, so only signal 0 is sent."""
    os.kill(-1, 0)
    return unharmed()


@probe
def timer_on_a_thread_of_init():
    event = struct.pack("qiii", 0, 11, 4, 1).ljust(64, b"\0")
    timer = ctypes.c_int()
    if libc.timer_create(1, event, ctypes.byref(timer)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")


@many("prlimit", LIMITS)
def prlimit(resource):
    call("prlimit64", 1, resource, (ctypes.c_uint64 * 2)(0, 0), 0)


@probe
def prlimit_cpu():
    """The kernel kills whoever passes the hard limit, PID 1 too."""
    call("prlimit64", 1, 0, (ctypes.c_uint64 * 2)(1, 1), 0)


@probe
def sched_setaffinity():
    call("sched_setaffinity", 1, 8, (ctypes.c_uint64 * 1)(1))


@probe
def sched_setaffinity_of_threads():
    for thread in os.listdir("/proc/1/task"):
        try:
            return call("sched_setaffinity", int(thread), 8, (ctypes.c_uint64 * 1)(1))
        except OSError as error:
            last = error
    raise last


@probe
def sched_setscheduler_idle():
    call("sched_setscheduler", 1, 5, (ctypes.c_int * 1)(0))


@probe
def sched_setparam():
    call("sched_setparam", 1, (ctypes.c_int * 1)(0))


@probe
def sched_setattr():
    attributes = struct.pack("IIQiIQQQ", 48, 5, 0, 0, 0, 0, 0, 0)
    call("sched_setattr", 1, ctypes.create_string_buffer(attributes, 48), 0)


@probe
def setpriority():
    call("setpriority", 0, 1, 19)


@probe
def setpriority_of_user():
    """PRIO_USER of the guest's own uid would reach PID 1."""
    call("setpriority", 2, os.stat("/proc/1").st_uid, 5)
    return _slowed()


@probe
def setpriority_of_own_user():
    call("setpriority", 2, 0, 5)
    return _slowed()


def _slowed():
    with open("/proc/1/stat") as file:
        nice = int(file.read().rpartition(")")[2].split()[16])
    if nice == 0:
        raise Refused("PID 1 kept its priority")
    return nice


@probe
def ioprio_set():
    call("ioprio_set", 1, 1, 3 << 13)


@probe
def ioprio_set_of_user():
    call("ioprio_set", 3, 0, 3 << 13)


@many("write", {n: n for n in ("oom_score_adj", "oom_adj", "comm", "timerslack_ns", "autogroup", "sched", "loginuid",
                               "attr/current", "timens_offsets")})  # fmt: skip
def write_init_file(name):
    write(f"/proc/1/{name}", b"1000" if name.startswith("oom") else b"15" if name == "oom_adj" else b"1")


@probe
def move_to_another_group():
    os.setpgid(1, os.getpgrp())


@probe
def stop_its_terminal():
    os.tcsetpgrp(0, 1)


@probe
def unharmed_at_last():
    return unharmed()
