"""Typing into terminals and reprogramming them."""

import fcntl
import os
import struct

from probing import Refused, leaked, probe


def _terminal():
    """A terminal of our own that controls us, so that nothing but a filter can object."""
    _, replica = os.openpty()
    os.setsid()
    fcntl.ioctl(replica, 0x540E, 0)
    return replica


@probe
def tiocsti():
    fcntl.ioctl(_terminal(), 0x5412, b"x")


@probe
def tiocsti_with_high_bits():
    """The kernel looks at 32 bits of the command: a filter that compared 64 would be passed."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ioctl(_terminal(), ctypes.c_ulong(0x1_0000_5412), b"x") < 0:
        raise OSError(ctypes.get_errno(), "TIOCSTI")


@probe
def tioclinux():
    fcntl.ioctl(_terminal(), 0x541C, b"\x02")


@probe(safe=True)
def tiocsetd():
    fcntl.ioctl(_terminal(), 0x5423, struct.pack("i", 0))


@probe
def tioccons():
    fcntl.ioctl(_terminal(), 0x541D, 0)


@probe
def no_terminal_of_the_host():
    """Without a terminal asked for, there is none: no controlling one and none among the descriptors."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return leaked([fd for fd in range(3) if os.isatty(fd)], "terminal")
    return "/dev/tty"


@probe
def other_terminals():
    found = [name for name in os.listdir("/dev/pts") if name.isdigit()]
    if found:
        return found
    raise Refused("no terminal of anybody")
