"""`cloche code`: one cell with its status, and a session that is typed."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration.bad_luck import CLI, cloche, read_until
from tests.integration.terminal_program import TerminalProgram


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\0" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PICTURE = f"""
import base64
class Picture:
    def __repr__(self): return 'a picture'
    def _repr_png_(self): return base64.b64decode({base64.b64encode(png(64, 48)).decode()!r})
Picture()
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_cells_keep_their_state(sandbox: Sandbox) -> None:
    done = cloche("code", sandbox.id, "-c", "import sys; x = 41; print('out'); print('err', file=sys.stderr); x + 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n42\n", b"err\n")
    assert cloche("code", sandbox.id, stdin=b"x").stdout == b"41\n"
    Path("cell.py").write_text("print(x * 2)")
    assert cloche("code", sandbox.id, "cell.py").stdout == b"82\n"
    assert cloche("code", sandbox.id, "-l", "bash", "-c", "printf '%s' no-newline").stdout == b"no-newline"


def test_statuses(sandbox: Sandbox) -> None:
    raised = cloche("code", sandbox.id, "-c", "1/0")
    assert raised.returncode == 1 and raised.stderr.endswith(b"ZeroDivisionError: division by zero\n")
    late = cloche("code", sandbox.id, "--timeout", "300ms", "-c", "while True: pass")
    assert late.returncode == 124 and b"timeout" in late.stderr
    died = cloche("code", sandbox.id, "-c", "import os; os._exit(3)")
    assert died.returncode == 1 and b"the interpreter ended" in died.stderr
    for wrong in (("-c", "1", "x.py"), ("nobody", "-c", "1"), ("--context", "c_nope", "-c", "1"), ("no/such.py",)):
        failed = cloche("code", *((sandbox.id,) if wrong[0] != "nobody" else ()), *wrong)
        assert failed.returncode == 125 and b"Traceback" not in failed.stderr, wrong
    assert cloche("code", sandbox.id, "--json", "-c", "1/0").returncode == 1


def test_as_json(sandbox: Sandbox) -> None:
    told = json.loads(cloche("code", sandbox.id, "--json", "-c", "print('a'); 6*7").stdout)
    assert (told["status"], told["text"], told["stdout"], told["sandbox"]) == ("ok", "42", "a\n", sandbox.id)


def test_a_sandbox_for_one_cell(real_home: Path) -> None:
    before = len(Sandbox.list())
    Path("cell.py").write_text("6 * 7")
    assert cloche("code", "cell.py").stdout == b"42\n"
    assert cloche("code", "-", stdin=b"'in'").stdout == b"'in'\n"
    assert cloche("code", "-c", "1/0").returncode == 1
    assert len(Sandbox.list()) == before
    kept = cloche("code", "--keep", "-c", "1").stderr.decode().split()[-1]
    Sandbox.from_id(kept).remove()


def test_pictures_are_told_and_kept_on_request(sandbox: Sandbox, own_state: Path) -> None:
    said = cloche("code", sandbox.id, "-c", PICTURE).stdout.decode()
    assert said.startswith("a picture\n[image/png 64x48 ") and "--save-images" in said
    for number in (1, 2):
        said = cloche("code", sandbox.id, "--save-images", "pictures", "-c", PICTURE).stdout.decode()
        assert said == f"a picture\n[image/png 64x48 saved to pictures/image-{number}.png]\n"
        assert (own_state / "pictures" / f"image-{number}.png").read_bytes() == png(64, 48)


def test_an_interrupt_ends_the_cell_and_not_its_context(sandbox: Sandbox) -> None:
    cloche("code", sandbox.id, "-c", "x = 5")
    client = subprocess.Popen(
        [*CLI, "code", sandbox.id, "-c", "import time\nprint('begun', flush=True)\ntime.sleep(1000)"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None
    read_until(client.stdout.fileno(), b"begun")
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=60)
    assert client.returncode == 130 and b"Traceback" not in said
    assert cloche("code", sandbox.id, "-c", "x").stdout == b"5\n"


def test_a_reader_that_goes_away(sandbox: Sandbox) -> None:
    line = f"{' '.join(CLI)} code {sandbox.id} -c 'while True: print(1)' | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (141, b"1\n", b"")


def test_a_session(sandbox: Sandbox, own_state: Path) -> None:
    with TerminalProgram("code", sandbox.id) as session:
        session.until(">>> ")
        for typed, shown in (
            ("def f(n):\n", "... "), ("    return n * 2\n", "... "), ("\n", ">>> "), ("f(21)\n", "42\r\n"),
            ("1/0\n", "ZeroDivisionError: division by zero\r\n"), ("'\\x1b[31m'\n", ">>> "),
            ("print('no newline', end='')\n", "no newline\r\n>>> "),
            (":nope\n", "no command :nope"), (":help\n", ":restart"),
        ):  # fmt: skip
            session.type(typed)
            session.until(shown)
        session.until(">>> ")
        session.type("import time; print('beg' + 'un'); time.sleep(1000)\n")
        session.until("begun\r\n")
        session.type(b"\x03")
        session.until("KeyboardInterrupt\r\n")
        session.until(">>> ")
        session.type("abandoned(")
        session.until("abandoned(")
        session.type(b"\x03")
        session.until(">>> ")
        session.type("f(4)\n")
        session.until("8\r\n")
        session.type(":lang sh\n")
        session.until("sh$ ")
        session.type("for i in 1 2; do\n")
        session.until("... ")
        session.type("echo line $i; done\n")
        session.until("line 2\r\n")
        session.until("sh$ ")
        session.type(":lang python\n")
        session.until(">>> ")
        session.type(":restart\n")
        session.until("variables are gone")
        session.until(">>> ")
        session.type("f(4)\n")
        session.until("NameError")
        session.until(">>> ")
        session.type(b"\x1b[A")
        session.until("f(4)")
        session.type(b"\x15\x04")
        assert session.ended() == 0
        assert session.is_as_before
    history = own_state / "state" / "cloche" / "history-python"
    assert "f(21)\n" in history.read_text() and stat.S_IMODE(history.stat().st_mode) == 0o600


def test_a_session_has_a_sandbox_of_its_own_which_is_removed(real_home: Path) -> None:
    before = len(Sandbox.list())
    with TerminalProgram("code", TERM="dumb", cols=20) as session:
        session.until(">>> ")
        session.type("1 + 1\n")
        session.until("2\r\n")
        session.until(">>> ")
        session.type(b"\x04")
        assert session.ended() == 0
    assert len(Sandbox.list()) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_session_that_is_told_to_end(sandbox: Sandbox, number: signal.Signals) -> None:
    with TerminalProgram("code", sandbox.id) as session:
        session.until(">>> ")
        session.send(number)
        assert session.ended() == 128 + number
        assert session.is_as_before and b"Traceback" not in session.seen


def test_the_sandbox_goes_away_under_a_session(sandbox: Sandbox) -> None:
    with TerminalProgram("code", sandbox.id) as session:
        session.until(">>> ")
        sandbox.remove()
        session.type("1\n")
        assert session.ended() == 125
        assert session.is_as_before


def test_history_stays_small(real_home: Path, own_state: Path) -> None:
    place = own_state / "state" / "cloche"
    place.mkdir(parents=True)
    os.symlink("/etc/passwd", place / "history-bash")
    (place / "history-python").write_text("x\n" * (1 << 20))
    with TerminalProgram("code") as session:
        session.until(">>> ")
        session.type("'only'\n")
        session.until(">>> ")
        session.type(b"\x04")
        assert session.ended() == 0
    assert (place / "history-python").read_text() == "'only'\n"
