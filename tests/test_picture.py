"""The README's picture of a terminal is one of these commands, and they still print what it shows."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "record_terminal.py"
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
#: what differs from one recording to the next
VARYING = re.compile(r"\s*\d+ ms$|sb_[0-9a-z]{26}|\w{3} [ \d]\d \d\d:\d\d|\d+s ago", re.M)


def shown() -> list[str]:
    """The lines of the picture, top to bottom."""
    lines: dict[float, list[tuple[float, str]]] = {}
    for text in ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text"):
        if (place := text.get("clip-path")) and text.text:
            row = float(re.findall(r"line-(\d+)", place)[0])
            lines.setdefault(row, []).append((float(text.get("x", "0")), text.text.replace("\xa0", " ")))
    return ["".join(part for _, part in sorted(lines[row])) for row in sorted(lines)]


def plain(text: str) -> list[str]:
    lines = (VARYING.sub("", line).split() for line in text.splitlines())
    return [" ".join(words) for words in lines if words]


def test_the_picture_asks_nobody_for_anything() -> None:
    text = PICTURE.read_text()
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_picture_begins_with_the_first_command() -> None:
    spec = importlib.util.spec_from_file_location("record_terminal", SCRIPT)
    assert spec is not None and spec.loader is not None
    recording = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recording)
    commands = [line.removeprefix("$ ") for line in plain("\n".join(shown())) if line.startswith("$ ")]
    assert commands == recording.SCENES


@pytest.mark.slow
@pytest.mark.serial
def test_the_commands_print_what_the_picture_shows() -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOCHE_")} | {"PATH": path}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--print"], capture_output=True, text=True, timeout=100, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert plain(done.stdout) == plain("\n".join(shown()))
