"""Files by which the kernel is steered or read."""

import glob
import os

from probing import Refused, leaked, many, probe, write

STEERING = {
    "core_pattern": "/proc/sys/kernel/core_pattern", "modprobe": "/proc/sys/kernel/modprobe",
    "hostname": "/proc/sys/kernel/hostname", "ns_last_pid": "/proc/sys/kernel/ns_last_pid",
    "panic": "/proc/sys/kernel/panic", "overcommit": "/proc/sys/vm/overcommit_memory",
    "drop_caches": "/proc/sys/vm/drop_caches", "binfmt": "/proc/sys/fs/binfmt_misc/register",
    "file_max": "/proc/sys/fs/file-max", "forward": "/proc/sys/net/ipv4/ip_forward",
    "ping_group": "/proc/sys/net/ipv4/ping_group_range", "userns": "/proc/sys/user/max_user_namespaces",
    "shmmax": "/proc/sys/kernel/shmmax", "sysrq": "/proc/sysrq-trigger", "irq": "/proc/irq/default_smp_affinity",
    "uid_map": "/proc/self/uid_map", "gid_map": "/proc/self/gid_map", "setgroups": "/proc/self/setgroups",
    "bus": "/proc/bus/pci/devices", "latency": "/proc/fs/ext4/options",
}  # fmt: skip
READ = ("kcore", "kmsg", "kallsyms", "keys", "key-users", "kpagecount", "kpageflags", "timer_list", "sched_debug",
        "modules", "vmallocinfo", "slabinfo", "interrupts", "iomem", "ioports", "config.gz", "sysvipc/shm")  # fmt: skip


@many("write", STEERING)
def write_steering(path):
    write(path, b"allow" if path.endswith("setgroups") else b"1")


@many("read_proc", {name.replace("/", "_"): f"/proc/{name}" for name in READ})
def read_masked(path):
    with open(path, "rb", buffering=0) as file:
        os.set_blocking(file.fileno(), False)
        return leaked(file.read(4096))


@probe
def write_anything_in_proc_sys():
    return _written(found for top in ("/proc/sys",) for found in _files(top))


@probe
def write_anything_in_sys():
    return _written(_files("/sys"))


@probe
def sys_shows_nothing():
    return leaked(os.listdir("/sys"), "entries")


@probe
def release_agent_anywhere():
    found = glob.glob("/sys/fs/cgroup/**/release_agent", recursive=True) + glob.glob("/**/release_agent")
    if not found:
        raise Refused("no cgroup file system in sight")
    write(found[0], b"/tmp/x")


@probe
def make_files_in_proc_and_sys():
    for place in ("/proc/x", "/sys/x"):
        try:
            os.mkdir(place)
        except OSError as error:
            last = error
        else:
            return place
    raise last


def _files(top):
    return (os.path.join(base, name) for base, _, names in os.walk(top) for name in names)


def _written(paths):
    opened = []
    for path in paths:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        opened.append(path)
    return leaked(opened, "file that may be written")
