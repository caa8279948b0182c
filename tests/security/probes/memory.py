"""Other processes' memory and what /proc tells of them. `victim` is a process of the same user."""

import ctypes
import os

from probing import Refused, call, leaked, libc, many, probe, write

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206


def victim():
    """A sleeping child that does not mind being traced where Yama is strict."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG
        libc.prctl(0x59616D61, ctypes.c_ulong(2**64 - 1), 0, 0, 0)
        os.write(writer, b"x")
        os.read(os.pipe()[0], 1)
    os.read(reader, 1)
    return pid


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _vm(name, pid):
    buffer = ctypes.create_string_buffer(b"attacked", 8)
    vector = Vector(ctypes.cast(buffer, ctypes.c_void_p), 8)
    call(name, pid, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0)


@probe
def ptrace_attach_init():
    call("ptrace", PTRACE_ATTACH, 1, 0, 0)


@probe
def ptrace_seize_init():
    call("ptrace", PTRACE_SEIZE, 1, 0, 0)


@probe(safe=True)
def ptrace_attach_sibling():
    call("ptrace", PTRACE_ATTACH, victim(), 0, 0)


@probe(safe=True)
def read_memory_of_sibling_by_call():
    _vm("process_vm_readv", victim())


@probe(safe=True)
def write_memory_of_sibling_by_call():
    _vm("process_vm_writev", victim())


@probe
def read_memory_of_init_by_call():
    _vm("process_vm_readv", 1)


@probe
def write_memory_of_init_by_call():
    _vm("process_vm_writev", 1)


@probe
def write_memory_of_init_by_file():
    write("/proc/1/mem", b"")
    with open("/proc/1/mem", "r+b", buffering=0) as file:
        file.seek(0x400000)
        file.write(b"x")


@many(
    "read_init",
    {
        n: n
        for n in (
            "mem",
            "environ",
            "maps",
            "smaps",
            "auxv",
            "stack",
            "syscall",
            "pagemap",
            "io",
            "personality",
            "timers",
            "numa_maps",
            "wchan",
            "patch_state",
        )
    },
)
def read_init(name):
    with open(f"/proc/1/{name}", "rb", buffering=0) as file:
        if name == "mem":
            file.seek(0x400000)
        return leaked(file.read(64).strip(b"0\n"))


@many("follow_init", {name: name for name in ("root", "cwd", "exe")})
def follow_init(name):
    return os.readlink(f"/proc/1/{name}"), os.stat(f"/proc/1/{name}")


@many("list_init", {name: name for name in ("fd", "fdinfo", "map_files", "root", "ns")})
def list_init(name):
    """Root inside may list the numbers of descriptors; what is behind them stays hidden."""
    names = os.listdir(f"/proc/1/{name}")
    if name in ("ns", "fd", "map_files"):
        return [os.readlink(f"/proc/1/{name}/{each}") for each in names]
    return names


@many("list_init_thread", {name: name for name in ("fd", "environ", "mem", "maps")})
def list_init_threads(name):
    """The same files by way of each thread."""
    for thread in os.listdir("/proc/1/task"):
        path = f"/proc/1/task/{thread}/{name}"
        try:
            if name == "fd":
                return [os.readlink(f"{path}/{number}") for number in os.listdir(path)]
            with open(path, "rb") as file:
                return leaked(file.read(16))
        except OSError as error:
            last = error
    raise last


@probe
def take_descriptor_of_init():
    init = os.pidfd_open(1)
    for number in range(32):
        try:
            return call("pidfd_getfd", init, number, 0)
        except OSError as error:
            last = error
    raise last


@probe(safe=True)
def take_descriptor_of_sibling():
    call("pidfd_getfd", os.pidfd_open(victim()), 0, 0)


@probe(safe=True)
def compare_with_sibling():
    call("kcmp", os.getpid(), victim(), 1, 0, 0)


@probe
def move_pages_of_init():
    call("move_pages", 1, 0, 0, 0, 0, 0)


@probe
def migrate_pages_of_init():
    call("migrate_pages", 1, 8, (ctypes.c_ulong * 1)(1), (ctypes.c_ulong * 1)(1))


@probe
def advise_memory_of_init():
    vector = Vector(0x400000, 4096)
    call("process_madvise", os.pidfd_open(1), ctypes.byref(vector), 1, 21, 0)


@probe
def write_coredump_filter_of_init():
    write("/proc/1/coredump_filter", b"0x7f")


@probe
def clear_refs_of_init():
    write("/proc/1/clear_refs", b"1")


@probe
def no_foreign_environment():
    """Whatever environment can be read must be free of the host's."""
    from probing import fact

    mark, found = fact("mark").encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    text = file.read()
            except OSError:
                continue
            # this probe itself is told the mark on its command line
            if mark in text and b"run.py" not in text:
                found.append(f"{pid}/{name}")
    return leaked(found, "foreign environment")


@probe
def no_foreign_process():
    """Every process here descends from PID 1, whose own parent is out of sight."""
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parents[int(pid)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    strangers = [pid for pid, parent in parents.items() if parent not in parents and not (pid == 1 and parent == 0)]
    if len(parents) > 200:
        return len(parents)
    if strangers:
        return strangers
    raise Refused(f"{len(parents)} processes, all of this box")
