"""Changing the programs that the box stands on (CVE-2019-5736 and its kin)."""

import os

from probing import Absent, leaked, many, probe, write

TARGETS = {
    "guest": "/.cloche/guest",
    "another": "/.cloche/launcher",
    "exe_of_init": "/proc/1/exe",
    "shell": "/usr/bin/env",
    "usr": "/usr/bin/cloche-probe",
    "usr_local": "/usr/local/cloche-probe",
    "linker_cache": "/etc/ld.so.cache",
}


@many("overwrite", TARGETS)
def overwrite(path):
    with open(path, "r+b" if os.path.exists(path) else "wb", buffering=0) as file:
        file.write(b"#!")


@probe
def overwrite_own_exe():
    write("/proc/self/exe")


@probe
def overwrite_exe_by_descriptor():
    """Open it to read and again, through /proc, to write."""
    reading = os.open("/proc/self/exe", os.O_RDONLY)
    os.close(os.open(f"/proc/self/fd/{reading}", os.O_WRONLY))


@probe
def overwrite_exe_of_any_process():
    opened = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY))
        except OSError:
            continue
        opened.append(pid)
    return leaked(opened, "program that may be written")


@many("remove", {"guest": "/.cloche/guest", "directory": "/.cloche"})
def remove(path):
    (os.rmdir if os.path.isdir(path) else os.unlink)(path)


@probe
def rename_directory():
    os.rename("/.cloche", "/tmp/cloche-moved")


@probe
def rename_guest():
    os.rename("/.cloche/guest", "/.cloche/other")


@probe
def add_beside():
    write("/.cloche/extra")


@probe
def chmod_guest():
    os.chmod("/.cloche/guest", 0o777)


@probe
def make_directory_at_root():
    os.mkdir("/made")


@probe
def preload_of_the_system():
    """Root inside may change its own /etc, and so may the only user where there is but one; nobody else."""
    if os.stat("/etc").st_uid == os.getuid():
        raise Absent("/etc of this box is the caller's own")
    write("/etc/ld.so.preload", b"/tmp/evil.so")
