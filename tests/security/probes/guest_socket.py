"""Ways to the guest's socket from inside: there is no path to it, and its descriptor is out of reach."""

import os
import socket

from probing import Refused, leaked, probe


@probe
def by_name():
    for name in (
        "guest.sock",
        "\0guest.sock",
        "./guest.sock",
        "/guest.sock",
        "/.cloche/guest.sock",
        "/proc/1/cwd/guest.sock",
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            if sock.connect_ex(name) == 0:
                return name
    raise Refused("no such socket")


@probe
def by_descriptor_path():
    """connect(2) to /proc/PID/fd/N of a listening socket is refused by the kernel; opening it as well."""
    for number in range(32):
        with socket.socket(socket.AF_UNIX) as sock:
            if sock.connect_ex(f"/proc/1/fd/{number}") == 0:
                return number
    raise Refused("no descriptor in reach")


@probe
def by_tcp():
    """The guest listens on nothing inside but for what leaves: the door's inner end."""
    door = {15001, 15080, 15081, 53}
    with open("/proc/net/tcp") as file:
        entries = [line.split() for line in file.readlines()[1:]]
    listening = [entry[1] for entry in entries if entry[3] == "0A" and int(entry[1].rpartition(":")[2], 16) not in door]
    return leaked(listening, "listening port")


@probe
def by_name_in_the_kernel():
    with open("/proc/net/unix") as file:
        return leaked([line for line in file if ".sock" in line], "named socket")


@probe
def by_descriptors_of_the_exec_step():
    """Every process that the guest starts is caught in the act: none holds more than its three pipes."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        found += [link for link in links if link.startswith("socket:") or "guest" in link]
    return leaked(found, "socket")
