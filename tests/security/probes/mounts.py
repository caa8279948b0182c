"""Mounts, roots and namespaces."""

import ctypes
import os
import signal

from probing import AMD64, Refused, call, libc, many, probe

NAMESPACES = {"time": 0x80, "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000,
              "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000}  # fmt: skip
MS_REMOUNT, MS_BIND = 32, 4096


def _mount(source, target, kind, flags=0, data=None):
    call("mount", source, target, kind, flags, data)


@probe(safe=True)
def mount_tmpfs():
    _mount(b"none", b"/tmp", b"tmpfs")


@probe(safe=True)
def mount_proc():
    _mount(b"proc", b"/mnt", b"proc")


@probe
def mount_cgroup():
    _mount(b"none", b"/tmp", b"cgroup", 0, b"memory")


@probe
def mount_cgroup2():
    _mount(b"none", b"/tmp", b"cgroup2")


@probe
def mount_sysfs():
    _mount(b"none", b"/tmp", b"sysfs")


@probe
def mount_overlay():
    _mount(b"none", b"/tmp", b"overlay", 0, b"lowerdir=/usr:/etc")


@probe
def mount_disk():
    _mount(b"/dev/vda", b"/tmp", b"ext4")


@probe(safe=True)
def bind_root():
    _mount(b"/", b"/mnt", None, MS_BIND)


@probe
def remount_usr_writable():
    _mount(None, b"/usr", None, MS_REMOUNT | MS_BIND)


@probe
def remount_proc_sys_writable():
    _mount(None, b"/proc/sys", None, MS_REMOUNT | MS_BIND)


@probe
def uncover_proc_sys():
    call("umount2", b"/proc/sys", 2)


@probe
def uncover_kcore():
    call("umount2", b"/proc/kcore", 2)


@probe
def uncover_root():
    call("umount2", b"/", 2)


@probe(safe=True)
def new_mount_api():
    call("fsopen", b"tmpfs", 0)


@probe(safe=True)
def open_tree_clone():
    call("open_tree", -100, b"/usr", 1)


@probe
def move_mount():
    fd = os.open("/usr", os.O_RDONLY)
    call("move_mount", fd, b"", -100, b"/tmp", 4)


@probe
def mount_setattr():
    call("mount_setattr", -100, b"/usr", 0, (ctypes.c_uint64 * 4)(0, 1, 0, 0), 32)


@probe(safe=True)
def list_mounts_by_id():
    call("listmount", (ctypes.c_uint64 * 4)(32, 2**64 - 1, 0, 0), (ctypes.c_uint64 * 16)(), 16, 0)


@probe(safe=True)
def chroot():
    os.makedirs(f"/tmp/root-{os.getpid()}")
    call("chroot", f"/tmp/root-{os.getpid()}".encode())


@probe(safe=True)
def pivot_root():
    """Where mounting works, everything is set up so that pivot_root must work too."""
    if libc.unshare(NAMESPACES["mount"]) == 0:
        place = f"/tmp/pivot-{os.getpid()}".encode()
        os.makedirs(place)
        _mount(b"none", b"/", None, (1 << 18) | 16384)
        _mount(b"none", place, b"tmpfs")
        os.chdir(place)
    else:
        os.chdir("/")
    call("pivot_root", b".", b".")


@many("unshare", NAMESPACES, safe=True)
def unshare(flag):
    call("unshare", flag)


@many("clone", {name: flag for name, flag in NAMESPACES.items() if name != "time"}, safe=True)
def clone(flag):
    """As fork(2) does it, with one flag more. The child ends at once."""
    pid = call("clone", flag | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@probe(safe=True)
def clone3():
    arguments = (ctypes.c_uint64 * 8)()
    arguments[4] = signal.SIGCHLD
    pid = call("clone3", arguments, 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@many("setns_of_init", {name: name for name in ("mnt", "net", "pid", "user", "uts", "ipc", "cgroup")})
def setns_of_init(name):
    call("setns", os.open(f"/proc/1/ns/{name}", os.O_RDONLY), 0)


@many("setns_of_self", {name: name for name in ("net", "uts", "ipc")}, safe=True)
def setns_of_self(name):
    call("setns", os.open(f"/proc/self/ns/{name}", os.O_RDONLY), 0)


@probe
def setns_by_pidfd():
    call("setns", os.pidfd_open(1), 0x20000 | 0x40000000)


@probe
def parent_namespaces():
    """NS_GET_PARENT and NS_GET_USERNS would give a handle on what lies outside."""
    import fcntl

    own = os.open("/proc/self/ns/user", os.O_RDONLY)
    fcntl.ioctl(own, 0xB702)


@probe(safe=True)
def set_hostname():
    call("sethostname", b"taken", 5)


@probe(safe=True)
def x32_call():
    if not AMD64:
        raise Refused("amd64 only")
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(0x40000000 | 272), ctypes.c_long(0x20000)) == -1:
        raise OSError(ctypes.get_errno(), "unshare by the x32 table")


@probe(safe=True)
def i386_call():
    """getpid by int 0x80: another table of numbers, which a filter of the native one would misread."""
    if not AMD64:
        raise Refused("amd64 only")
    import mmap

    code = b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3"  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int32)(address)()
    if result < 0:
        raise OSError(-result, "getpid by int 0x80")
    return result
