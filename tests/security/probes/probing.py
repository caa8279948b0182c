"""What a probe is: a function that tries something forbidden. It returns when that worked, and raises OSError when it
was refused. `Refused` says so where there is no errno. Runs inside a sandbox, so it needs nothing but Python."""

import ctypes
import errno
import json
import os
import platform
import signal
import sys
import traceback

libc = ctypes.CDLL(None, use_errno=True)
PROBES = {}
FACTS = {}
SECONDS = 20
MOST_DETAIL = 2000
AMD64 = platform.machine() == "x86_64"

#: numbers below 424 differ between architectures (amd64, arm64); from there on they are the same everywhere
NUMBERS = {
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "settimeofday": (164, 170),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "adjtimex": (159, 171),
    "acct": (163, 89),
    "modify_ldt": (154, -1),
    "vhangup": (153, 58),
    "clock_settime": (227, 112),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "migrate_pages": (256, 238),
    "unshare": (272, 97),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "clock_adjtime": (305, 266),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "bpf": (321, 280),
    "kexec_file_load": (320, 294),
    "userfaultfd": (323, 282),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "clone": (56, 220),
    "mknodat": (259, 33),
    "capset": (126, 91),
    "lookup_dcookie": (212, 18),
    "remap_file_pages": (216, 234),
    "getpid": (39, 172),
    "io_setup": (206, 0),
    "uselib": (134, -1),
    "ustat": (136, -1),
    "sysfs": (139, -1),
    "nfsservctl": (180, 42),
    "set_tid_address": (218, 96),
    "setdomain": (171, 162),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fspick": (433, 433),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "quotactl_fd": (443, 443),
    "process_mrelease": (448, 448),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "lsm_set_self_attr": (460, 460),
}


class Refused(Exception):
    """Refused in a way that has no errno."""


class Absent(Refused):
    """There is nothing of the kind here."""


def probe(function=None, *, safe=False):
    """Register. `safe`: may also run as root in throw-away namespaces outside, to show that it can succeed."""

    def register(found):
        found.safe = safe
        PROBES[found.__name__] = found
        return found

    return register(function) if function else register


def many(name, values, *, safe=False):
    """Register `function(value)` once for each `label: value`."""

    def register(function):
        for label, value in values.items():
            each = lambda value=value: function(value)  # noqa: E731
            each.safe = safe
            PROBES[f"{name}_{label}"] = each
        return function

    return register


def call(name, *arguments):
    """The raw system call. Raises OSError."""
    number = NUMBERS[name][0 if AMD64 else 1]
    if number < 0:
        raise Absent(f"{name} does not exist on this architecture")
    words = [ctypes.c_long(part) if isinstance(part, int) else part for part in arguments]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *words)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return result


def write(path, data=b"1"):
    with open(path, "wb", buffering=0) as file:
        file.write(data)


def leaked(data, what="bytes"):
    """Reading gave something (the attack worked) or nothing."""
    if not data:
        raise Refused(f"no {what}")
    return data[:80]


def fact(name):
    if name not in FACTS:
        raise Absent(f"not told: {name}")
    return FACTS[name]


def attempt(function):
    """In a child of its own, which may die. The JSON of a probe's end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        FACTS["own_descriptors"] = (reader, writer)
        end = outcome(function)
        os.write(writer, json.dumps(end | {"detail": end["detail"][:MOST_DETAIL]}).encode())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    # not to the end of the pipe: what the probe has left running may hold it open
    os.close(writer)
    os.set_blocking(reader, False)
    try:
        text = os.read(reader, 65536)
    except BlockingIOError:
        text = b""
    os.close(reader)
    return json.loads(text) if text else {"refused": None, "detail": f"the probe ended with wait status {status}"}


def outcome(function):
    try:
        value = function()
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        return {"refused": True, "errno": name, "detail": str(error)}
    except Refused as error:
        return {"refused": True, "errno": None, "absent": isinstance(error, Absent), "detail": str(error)}
    except BaseException:
        return {"refused": None, "detail": traceback.format_exc()}
    return {"refused": False, "errno": None, "detail": repr(value)}


def main(names):
    chosen = {name: PROBES[name] for name in names} if names else PROBES
    for name, function in chosen.items():
        print(json.dumps({"probe": name, **attempt(function)}), flush=True)


if __name__ == "__main__":
    sys.exit("run run.py instead")
