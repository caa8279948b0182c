"""Run the README's first commands on a real terminal and draw what came out: docs/images/terminal.svg.

Everything in the picture is what the commands printed, with the time that each took; only the typing is made up."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "images" / "terminal.svg"
sys.path.insert(0, str(ROOT))

from dev import private_home  # noqa: E402

COLUMNS, ROWS = 92, 40
SCENES = [
    "cloche run -- python3 -c 'print(6 * 7)'",
    "cloche run -- cat /etc/shadow",
    "cloche run -- python3 -c 'import socket; print(socket.if_nameindex())'",
    "cloche create --name lab --memory 256m",
    "cloche code lab -c 'import math; r = 6371; 4/3 * math.pi * r**3'",
    "cloche code lab -c 'f\"{r} km is still here\"'",
    "cloche exec lab -- sh -c 'echo kept > note; ls -l'",
    "cloche ls",
    "cloche rm -f lab",
]
PROMPT = Style(color="bright_green", bold=True)
DIM = Style(color="bright_black")


def main() -> None:
    """Write the picture, or with --print only say what it would show."""
    screen = Text()
    with private_home():
        subprocess.run(["cloche", "run", "--", "true"], check=True)  # the node of the new directory starts
        for command in SCENES:
            screen.append_text(scene(command))
    if "--print" in sys.argv:
        print(screen.plain)
        return
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(screen, end="")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(without_fonts_from_elsewhere(console.export_svg(title="cloche", unique_id="cloche")))


def scene(command: str) -> Text:
    """One command, what it printed, and how long it took."""
    begin = time.perf_counter()
    printed = on_terminal(command)
    took = f"{(time.perf_counter() - begin) * 1000:.0f} ms"
    line = Text.assemble(("$ ", PROMPT), command)
    line.append(" " * max(1, COLUMNS - line.cell_len - len(took)))
    line.append(took, DIM)
    return Text.assemble(line, "\n", Text.from_ansi(printed.rstrip()), "\n" if printed.strip() else "")


def on_terminal(command: str) -> str:
    """What the command writes to a terminal of this size, with its colours."""
    main_side, command_side = pty.openpty()
    fcntl.ioctl(command_side, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(
        ["bash", "-c", command], stdin=command_side, stdout=command_side, stderr=command_side, env=environment,
        start_new_session=True,
    ):  # fmt: skip
        os.close(command_side)
        written = read_all(main_side)
    os.close(main_side)
    return written.decode("utf-8", "replace").replace("\r\n", "\n")


def read_all(descriptor: int) -> bytes:
    written = b""
    while True:
        try:
            piece = os.read(descriptor, 1 << 16)
        except OSError:  # a terminal whose other side is gone says EIO
            return written
        if not piece:
            return written
        written += piece


def without_fonts_from_elsewhere(svg: str) -> str:
    """A picture that asks another server for a font tells that server who reads it."""
    return re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.S)


if __name__ == "__main__":
    main()
