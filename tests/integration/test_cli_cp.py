"""`cloche cp` between this machine and a real sandbox: where things end up, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.bad_luck import CLI, cloche, until
from tests.integration.terminal_program import TerminalProgram

NAMES = [
    b"with space", b"quo'te\"s", b"new\nline", "emoji😀".encode(), b"-dash", b".dot", b"\xff\xfe", b"star*", b"$(x)",
    b"back\\slash", b"\x1b[31mred", b"a" * 255,
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copied(*argv: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    done = cloche("cp", *argv, stdin=stdin)
    assert b"Traceback" not in done.stderr
    return done


def inside(sandbox: Sandbox, script: str) -> str:
    return sandbox.exec("sh", "-c", script, check=True).stdout


def test_where_a_file_ends_up(sandbox: Sandbox, here: Path) -> None:
    (here / "f").write_text("one")
    box = sandbox.id
    inside(sandbox, "mkdir dir; echo old > there")
    for target, place in (
        ("", "f"),
        ("dir", "dir/f"),
        ("dir/", "dir/f"),
        ("there", "there"),
        ("/tmp/n/new", "/tmp/n/new"),
    ):
        assert copied("f", f"{box}:{target}").returncode == 0
        assert inside(sandbox, f"cat {place}") == "one", target
    refused = copied("f", f"{box}:/missing/deeper/f")
    assert refused.returncode == 125 and b"cannot copy to /missing/deeper/f" in refused.stderr
    assert copied("f", f"{box}:missing/").returncode == 125
    (here / "out").mkdir()
    for target, place in ((".", "there"), ("out", "out/there"), ("out/", "out/there"), ("new", "new")):
        assert copied(f"{box}:there", target).returncode == 0
        assert (here / place).read_text() == "one", target
    assert copied(f"{box}:there", "missing/").returncode == 125
    assert copied(f"{box}:there", "missing/deeper").returncode == 125
    assert copied(f"{box}:nothing", ".").returncode == 125


def test_where_a_tree_ends_up(sandbox: Sandbox, here: Path) -> None:
    (here / "tree" / "sub").mkdir(parents=True)
    (here / "tree" / "sub" / "f").write_text("x")
    box = sandbox.id
    inside(sandbox, "mkdir dir; echo old > file")
    for source, target, place in (
        ("tree", "", "tree"), ("tree/", "new", "new"), ("tree", "dir", "dir/tree"), ("tree/.", "dir", "dir"),
        ("tree/.", "made", "made"),
    ):  # fmt: skip
        assert copied(source, f"{box}:{target}").returncode == 0
        assert inside(sandbox, f"cat {place}/sub/f") == "x", (source, target)
    assert copied("tree", f"{box}:file").returncode == 125
    for source, target, place in (
        ("tree", "back", "back"), ("tree", "back", "back/tree"),
        ("tree/.", "contents", "contents"), ("tree/.", ".", "."),
    ):  # fmt: skip
        assert copied(f"{box}:{source}", target).returncode == 0
        assert (here / place / "sub" / "f").read_text() == "x", (source, target)
    assert copied(f"{box}:tree", "tree/sub/f").returncode == 125


def test_names_modes_times_and_links_survive(sandbox: Sandbox, here: Path) -> None:
    tree = os.fsencode(here / "tree")
    os.mkdir(tree)
    for name in NAMES:
        with open(os.path.join(tree, name), "wb") as file:
            file.write(name)
        os.chmod(file.name, 0o640)
        os.utime(file.name, (10, 1_000_000_000.25))
    os.symlink(b"with space", os.path.join(tree, b"link"))
    os.utime(tree, (10, 1_000_000_001))
    assert copied("tree", f"{sandbox.id}:").returncode == 0
    assert inside(sandbox, "stat -c '%a %Y' tree/star\\*") == "640 1000000000\n"
    assert copied(f"{sandbox.id}:tree", "back").returncode == 0
    back = os.fsencode(here / "back")
    assert sorted(os.listdir(back)) == sorted([*NAMES, b"link"])
    for name in NAMES:
        found = os.stat(os.path.join(back, name))
        assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o640, 1_000_000_000.25)
        with open(os.path.join(back, name), "rb") as file:
            assert file.read() == name
    assert os.readlink(os.path.join(back, b"link")) == b"with space"
    assert os.stat(back).st_mtime == 1_000_000_001
    for name in NAMES:
        assert copied(os.path.join(tree, name), os.fsencode(sandbox.id) + b":/tmp/" + name).returncode == 0
        assert copied(os.fsencode(sandbox.id) + b":/tmp/" + name, b"./:one").returncode == 0
        found = os.stat(here / ":one")
        assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o640, 1_000_000_000.25)


def test_tar_streams(sandbox: Sandbox, here: Path) -> None:
    inside(sandbox, "mkdir d; echo hi > d/f")
    packed = copied(f"{sandbox.id}:d", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["d", "d/f"]
    assert copied("-", f"{sandbox.id}:/tmp/new", stdin=packed).returncode == 0
    assert inside(sandbox, "cat /tmp/new/d/f") == "hi\n"
    cut = copied("-", f"{sandbox.id}:/tmp/cut", stdin=packed[:1100])
    assert cut.returncode == 125 and cut.stderr
    assert copied("-", f"{sandbox.id}:/tmp/junk", stdin=b"no tar").returncode == 125
    with TerminalProgram("cp", f"{sandbox.id}:d", "-") as shown:
        assert shown.ended() == 125 and b"tar t" in shown.seen
    with TerminalProgram("cp", "-", f"{sandbox.id}:d") as read:
        assert read.ended() == 125


def test_what_is_hostile_stays_inside(sandbox: Sandbox, here: Path) -> None:
    inside(
        sandbox,
        "mkdir t; ln -s /etc/passwd t/abs; ln -s ../../x t/up; mkfifo t/p; printf x > \"t/$(printf '\\033[2Jz')\"",
    )
    inside(sandbox, "ln -s /nowhere \"t/$(printf '\\033[2Jlink')\"; printf x > t/setuid; chmod 4755 t/setuid")
    (here / "target").mkdir()
    done = copied(f"{sandbox.id}:t", "target")
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr and b"\\x1b[2Jlink" in done.stderr
    assert sorted(os.listdir(here / "target" / "t")) == ["\x1b[2Jz", "setuid"]
    assert stat.S_IMODE((here / "target" / "t" / "setuid").stat().st_mode) == 0o755
    assert os.listdir(here) == ["target"]


def test_a_device_or_a_pipe_of_the_host_is_written_and_not_replaced(sandbox: Sandbox, here: Path) -> None:
    inside(sandbox, "echo content > f")
    os.mkfifo(here / "pipe")
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append((here / "pipe").read_text()))
    reader.start()
    assert copied(f"{sandbox.id}:f", "pipe").returncode == 0
    reader.join(30)
    assert found == ["content\n"] and stat.S_ISFIFO((here / "pipe").stat().st_mode)


def test_a_link_at_the_name_is_replaced_and_not_followed(sandbox: Sandbox, here: Path) -> None:
    """Who shares the directory with a sandbox may find links in it that lead anywhere."""
    inside(sandbox, "echo content > f; mkdir tree; echo content > tree/f")
    (here / "real").write_text("old")
    (here / "link").symlink_to("real")
    assert copied(f"{sandbox.id}:f", "link").returncode == 0
    assert not (here / "link").is_symlink() and (here / "real").read_text() == "old"
    (here / "elsewhere").mkdir()
    (here / "into").mkdir()
    (here / "into/tree").symlink_to(here / "elsewhere")
    assert copied(f"{sandbox.id}:tree", "into").returncode == 125
    assert not list((here / "elsewhere").iterdir())


def test_a_huge_sparse_file_takes_no_room(sandbox: Sandbox, here: Path) -> None:
    inside(sandbox, "truncate -s 300M huge; printf end >> huge")
    assert copied(f"{sandbox.id}:huge", "huge").returncode == 0
    found = (here / "huge").stat()
    assert found.st_size == (300 << 20) + 3 and found.st_blocks * 512 < 1 << 20


def test_two_copies_of_one_file_at_once(sandbox: Sandbox, here: Path) -> None:
    wholes = {bytes([65 + number]) * (3 << 20) for number in range(2)}
    for whole in wholes:
        (here / chr(whole[0])).write_bytes(whole)
    clients = [subprocess.Popen([*CLI, "cp", name, f"{sandbox.id}:one"]) for name in "AB"]
    assert [client.wait(60) for client in clients] == [0, 0]
    assert sandbox.files.read_bytes("one") in wholes
    clients = [subprocess.Popen([*CLI, "cp", f"{sandbox.id}:one", "one"]) for _ in range(2)]
    assert [client.wait(60) for client in clients] == [0, 0]
    assert (here / "one").read_bytes() in wholes
    assert sorted(os.listdir(here)) == ["A", "B", "one"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_copy_leaves_no_half_file(sandbox: Sandbox, here: Path, number: signal.Signals) -> None:
    inside(sandbox, "truncate -s 20G huge; echo old > there; mkdir -p tree; mv huge tree/huge")
    (here / "there").write_text("old")
    for source, target in ((f"{sandbox.id}:tree/huge", "there"), (f"{sandbox.id}:tree", "out")):
        client = subprocess.Popen([*CLI, "cp", source, target])
        until(
            lambda: any(name.startswith(".cloche-") for _, _, names in os.walk(here) for name in names), "it has begun"
        )
        client.send_signal(number)
        assert client.wait(60) == 128 + number
    assert (here / "there").read_text() == "old"
    assert [name for _, _, names in os.walk(here) for name in names] == ["there"]
    os.truncate(here / "there", 20 << 30)
    client = subprocess.Popen([*CLI, "cp", "there", f"{sandbox.id}:there"], stderr=subprocess.DEVNULL)
    until(lambda: ".cloche-" in inside(sandbox, "ls -A"), "it has begun")
    client.send_signal(number)
    assert client.wait(60) in (128 + number, 125)  # 125: its disk was full before
    until(lambda: ".cloche-" not in inside(sandbox, "ls -A"), "nothing is left")
    assert inside(sandbox, "cat there") == "old\n"


def test_how_far_it_is_is_shown_on_a_terminal_only(sandbox: Sandbox, here: Path) -> None:
    inside(sandbox, "truncate -s 20G huge")
    with TerminalProgram("cp", f"{sandbox.id}:huge", "/dev/null", cols=40) as shown:
        shown.until(b" of 20.0 GiB, ")
        shown.until(b"/s")
        shown.type(b"\x03")
        assert shown.ended() == 130
        lines = shown.seen.partition(b"^C")[0].split(b"\r")
        assert all(len(line.replace(b"\x1b[K", b"")) < 40 for line in lines) and b"\r\x1b[K" in shown.seen
    inside(sandbox, "truncate -s 900M huge")
    for quiet in (("-q",), ("--json",)):
        with TerminalProgram("cp", *quiet, f"{sandbox.id}:huge", "/dev/null") as silent:
            assert silent.ended() == 0 and b"iB of" not in silent.seen
    inside(sandbox, "truncate -s 9M huge")
    told = copied("--json", f"{sandbox.id}:huge", "/dev/null")
    assert not told.stderr and json.loads(told.stdout) == {"files": 1, "bytes": 9 << 20, "refused": []}
