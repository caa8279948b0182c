"""Device nodes: the host's, and ones made inside."""

import os
import stat

from probing import Refused, call, leaked, many, probe

NAMES = (
    "mem",
    "kmem",
    "port",
    "kmsg",
    "kvm",
    "fuse",
    "net/tun",
    "loop-control",
    "loop0",
    "sda",
    "vda",
    "nvme0n1",
    "dm-0",
    "userfaultfd",
    "vhost-vsock",
    "vhost-net",
    "hpet",
    "rtc0",
    "ptp0",
    "mapper/control",
    "console",
    "tty0",
    "tty1",
    "uinput",
    "input/event0",
    "dri/card0",
    "btrfs-control",
    "autofs",
    "cuse",
    "vsock",
    "udmabuf",
)


@many("open", {name.replace("/", "_").replace("-", "_"): f"/dev/{name}" for name in NAMES})
def open_device(path):
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def _make(kind, major, minor):
    path = f"/tmp/node-{os.getpid()}"
    try:
        os.mknod(path, kind | 0o666, os.makedev(major, minor))
        os.close(os.open(path, os.O_RDONLY))
    finally:
        if os.path.lexists(path):
            os.unlink(path)


@probe(safe=True)
def mknod_mem():
    _make(stat.S_IFCHR, 1, 1)


@probe(safe=True)
def mknod_kmsg():
    _make(stat.S_IFCHR, 1, 11)


@probe
def mknod_disk():
    _make(stat.S_IFBLK, 8, 0)


@probe
def mknod_kvm():
    _make(stat.S_IFCHR, 10, 232)


@probe
def mknod_in_dev():
    call("mknodat", -100, b"/dev/made", stat.S_IFCHR | 0o666, os.makedev(1, 3))


@probe
def write_in_dev():
    os.mkdir("/dev/made")


@probe
def unlink_in_dev():
    os.unlink("/dev/null")


@probe
def dev_holds_only_harmless_nodes():
    harmless = {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "ptmx",
        "pts",
        "shm",
        "fd",
        "stdin",
        "stdout",
        "stderr",
    }
    return leaked(sorted(set(os.listdir("/dev")) - harmless), "other node")


@probe
def exhaust_terminals():
    """The number of terminals is the whole machine's: a box may have its share of it and no more."""
    held = []
    try:
        while len(held) < 600:
            held.append(os.openpty())
    except OSError as error:
        raise Refused(f"after {len(held)}: {error}") from error
    return len(held)
