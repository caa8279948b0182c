"""Becoming more than one is."""

import ctypes
import os
import shutil
import subprocess

from probing import Absent, Refused, call, leaked, libc, probe, write

DANGEROUS = {
    2,
    8,
    12,
    13,
    16,
    17,
    18,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    29,
    30,
    31,
    32,
    33,
    34,
    35,
    36,
    37,
    38,
    39,
    40,
}


def _status(field):
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith(field + ":"))


@probe
def new_privileges():
    if _status("NoNewPrivs") == "1":
        raise Refused("no_new_privs is set")


@probe
def filter_is_off():
    if _status("Seccomp") == "2":
        raise Refused("a filter is set")


@probe
def dangerous_capabilities():
    held = [name for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")
            if any(int(_status(name), 16) >> capability & 1 for capability in DANGEROUS)]  # fmt: skip
    return leaked(held, "dangerous capability")


@probe
def any_capability_for_an_ordinary_user():
    if os.getuid() == 0:
        raise Absent("root inside has some over its own box")
    held = [name for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb") if int(_status(name), 16)]
    return leaked(held, "capability")


@probe
def raise_capabilities():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    everything = (ctypes.c_uint32 * 6)(*[2**32 - 1] * 3, *[0x1FF] * 3)
    call("capset", header, everything)


@probe
def raise_ambient_sys_admin():
    if libc.prctl(47, 2, 21, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_CAP_AMBIENT_RAISE")


@probe
def become_root():
    if os.getuid() == 0:
        raise Absent("it is root inside already")
    os.setuid(0)


@probe
def become_an_id_of_the_host():
    os.setuid(70000)


@probe
def join_groups():
    if os.getuid() == 0:
        raise Absent("root inside may choose among the box's own groups")
    os.setgroups([0, 27, 42])


@probe
def mounts_that_honour_setuid():
    bad = []
    with open("/proc/self/mounts") as file:
        for line in file:
            options = line.split()[3].split(",")
            if "nosuid" not in options:
                bad.append(line.split()[1])
    return leaked(bad, "mount without nosuid")


@probe
def mounts_that_honour_devices():
    with open("/proc/self/mounts") as file:
        lines = [line.split() for line in file]
    kept = [line[1] for line in lines if "nodev" not in line[3].split(",") and not _is_device_place(line[1])]
    return leaked(kept, "mount without nodev")


def _is_device_place(place):
    return place == "/dev" or place.startswith(("/dev/", "/proc"))


@probe
def host_setuid_programs():
    """Running each setuid program of the host's must not change who we are."""
    program = next((name for name in ("su", "mount", "newgrp", "passwd") if shutil.which(name)), None)
    if program is None:
        raise Absent("no setuid program here")
    process = subprocess.Popen(
        [program, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with open(f"/proc/{process.pid}/status") as file:
            uids = next(line.split()[1:] for line in file if line.startswith("Uid:"))
    finally:
        process.kill()
        process.wait()
    if uids == [str(os.getuid())] * 4:
        raise Refused(f"{program} runs as {uids[0]}")
    return uids


@probe
def own_setuid_program():
    """A setuid program that is root inside, run by the ordinary user."""
    place = f"/tmp/suid-{os.getpid()}"
    shutil.copy(os.path.realpath("/usr/bin/id"), place)
    os.chmod(place, 0o4755)
    if os.getuid() == 0:
        os.setresuid(1000, 1000, 1000)
    found = subprocess.run([place, "-u"], capture_output=True, text=True).stdout.strip()
    if found == str(os.getuid()):
        raise Refused(f"it ran as {found}")
    return found


@probe
def file_capabilities():
    place = f"/tmp/caps-{os.getpid()}"
    shutil.copy(os.path.realpath("/usr/bin/id"), place)
    value = bytes.fromhex("0100000200002000000000000000000000000000")
    os.setxattr(place, "security.capability", value)


@probe
def trusted_attributes():
    write("/tmp/trusted", b"x")
    os.setxattr("/tmp/trusted", "trusted.overlay.opaque", b"y")


@probe
def reach_lower_files_by_overlay_attributes():
    """`user.overlay.redirect` set by hand could lead a lookup elsewhere."""
    os.makedirs("/tmp/redirected", exist_ok=True)
    os.setxattr("/tmp/redirected", "user.overlay.redirect", b"/proc")
    return leaked([name for name in os.listdir("/tmp/redirected") if name == "self"], "redirected entry")
