"""The network from the command line: what is typed, what is shown, and questions on a real terminal."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox
from tests.integration import bad_luck
from tests.integration.dns_server import DnsServer
from tests.integration.node_harness import namespace_home
from tests.integration.terminal_program import TerminalProgram

HOST = "files.example"
READY = "echo rea''dy\n"


def cloche(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    done = bad_luck.cloche(*argv, **environ)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    names = DnsServer()
    names.add(HOST, "127.0.0.1")
    try:
        with namespace_home(tmp_path_factory.mktemp("network") / "home", CLOCHE_DNS=names.address) as place:
            with Sandbox.create() as sandbox:
                if sandbox.exec("curl", "--version").exit_code:
                    pytest.skip("the machine's /usr has no curl: apt-get install curl")
            yield place
    finally:
        names.close()


@pytest.fixture
def place(port: int) -> str:
    """The word for the host, which is on this machine and so has to be permitted there."""
    return f"{HOST}:{port}@127.0.0.0/8"


@pytest.fixture
def curl(port: int) -> tuple[str, ...]:
    return ("curl", "-fsS", f"http://{HOST}:{port}/")


@pytest.fixture
def fetch(port: int) -> str:
    return f"import urllib.request; print(urllib.request.urlopen('http://{HOST}:{port}/').read())"


def test_a_policy_is_given_changed_and_shown(place: str, curl: tuple[str, ...]) -> None:
    with Sandbox.create(name="work") as box:
        assert cloche("exec", "work", "--", *curl).returncode == 6
        assert cloche("policy", "allow", "work", place).stdout == f"{place}\n"
        assert cloche("exec", "work", "--", *curl).stdout == "hello\n"
        assert f"1. {place}" in cloche("policy", "show", "work").stdout
        assert cloche("policy", "set", "work", "none").stdout == "none\n"
        assert cloche("exec", "work", "--", *curl).returncode == 6
        shown = json.loads(cloche("policy", "show", "work", "--json").stdout)
        assert (shown["words"], shown["door"]) == ("none", "closed")
        (line,) = [line for line in box.egress_log() if line.verdict == "allowed" and line.via != "dns"]
        assert (line.host, line.process) == (HOST, "curl")


def test_run_tells_what_was_refused(port: int, place: str, curl: tuple[str, ...]) -> None:
    told = {"denied": []}
    # the line is written when the connection is over, for which nobody can wait
    while not told["denied"]:
        told = json.loads(cloche("run", "--json", "--net", "other.example", "--", *curl).stdout)
    assert [(one["host"], one["port"], one["rule"]) for one in told["denied"]] == [(HOST, port, "default")]
    closed = json.loads(cloche("run", "--json", "--", *curl).stdout)
    assert [one["rule"] for one in closed["denied"]] == ["closed"]
    allowed = json.loads(cloche("run", "--json", "--net", place, "--", *curl).stdout)
    assert (allowed["stdout"], allowed["denied"]) == ("hello\n", [])


def test_on_a_terminal_it_is_a_line_with_the_remedy(port: int, curl: tuple[str, ...]) -> None:
    seen = b""
    # as above: on a machine that has much to do the line may come too late
    while b"refused" not in seen:
        with TerminalProgram("run", "--net", "other.example", "--", *curl, cols=200) as program:
            assert program.ended() == 22
            seen = program.rest()
    assert (
        f"refused {HOST}:{port} (no rule allows it); allow it with: --net other.example,{HOST}:{port}".encode() in seen
    )


@pytest.mark.parametrize(("typed", "status", "shown"), [("o\n", 0, "hello"), ("d\n", 22, "said no")])
def test_a_question_in_a_line(typed: str, status: int, shown: str, place: str, curl: tuple[str, ...]) -> None:
    with TerminalProgram("run", "--net", f"?{place}", "--", *curl, cols=200) as program:
        program.until("(d)eny: ")
        program.type("what\n")
        program.until("o, a or d? ")
        program.type(typed)
        program.until(shown)
        assert program.ended() == status


def test_a_question_goes_with_the_command(place: str, curl: tuple[str, ...]) -> None:
    with TerminalProgram("run", "--net", f"?{place}", "--", *curl) as program:
        program.until("(d)eny: ")
        program.type(b"\x03")
        assert program.ended() == 130
        assert program.is_as_before


@pytest.mark.parametrize(("typed", "status", "shown"), [("o\n", 0, "hello"), ("d\n", 1, "403"), (b"\x03", 130, "\n")])
def test_a_question_of_code(typed: str | bytes, status: int, shown: str, place: str, fetch: str) -> None:
    with TerminalProgram("code", "--net", f"?{place}", "-c", fetch, cols=200) as program:
        program.until(f"wants to reach {HOST}")
        program.until("(d)eny: ")
        program.type(typed)
        program.until(shown)
        assert program.ended() == status
        assert program.is_as_before


def test_questions_of_a_session_of_code(place: str, fetch: str) -> None:
    with TerminalProgram("code", "--net", f"?{place}", cols=200) as program:
        # what was denied in one cell, or interrupted, is asked about again in the next
        for typed, shown in ((b"\x03", "Traceback"), ("d\n", "403"), ("o\n", "hello")):
            program.until(">>> ")
            program.type(f"{fetch}\n")
            program.until("(d)eny: ")
            program.type(typed)
            program.until(shown)
        program.until(">>> ")
        program.type(b"\x04")
        assert program.ended() == 0
        assert program.is_as_before


def test_a_policy_that_asks_later_asks_in_what_is_open_already(place: str, curl: tuple[str, ...], fetch: str) -> None:
    with Sandbox.create(name="open") as box:
        with TerminalProgram("code", "open", cols=200) as code, TerminalProgram("shell", "open", cols=200) as shell:
            code.until(">>> ")
            shell.type(READY)
            shell.until("ready\r\n")
            box.set_policy(f"?{place}")
            shell.type(f"{' '.join(curl)}\n")
            shell.until("Type a letter")
            _answer(shell)
            shell.until("hello")
            code.type(f"{fetch}\n")
            code.until("(d)eny: ")
            code.type("o\n")
            code.until("hello")


@pytest.mark.parametrize("command", ["run", "code"])
def test_a_question_of_a_command_whose_answer_is_json(
    command: str, place: str, curl: tuple[str, ...], fetch: str
) -> None:
    argv = ("--", *curl) if command == "run" else ("-c", fetch)
    with TerminalProgram(command, "--json", "--net", f"?{place}", *argv, cols=200) as program:
        program.until("(d)eny: ")
        program.type("o\n")
        program.until("hello")
        assert program.ended() == 0


def test_a_cell_that_was_refused_something_says_so(port: int, fetch: str) -> None:
    with TerminalProgram("code", "--net", "other.example", cols=200) as program:
        program.until(">>> ")
        program.type(f"{fetch}\n")
        # the line is written when the connection is over, for which nobody can wait
        while b"refused" not in program.until(">>> "):
            program.type(f"{fetch}\n")
        assert f"allow it with: --net other.example,{HOST}:{port}".encode() in program.seen
        program.type(b"\x04")
        assert program.ended() == 0


def test_ctrl_c_at_a_question_ends_a_command_that_has_something_to_show(place: str, curl: tuple[str, ...]) -> None:
    script = f"trap 'echo ended; exit 3' INT; {' '.join(curl)} & wait"
    with TerminalProgram("run", "--net", f"?{place}", "--", "bash", "-c", script, cols=200) as program:
        program.until("(d)eny: ")
        program.type(b"\x03")
        program.until("ended")
        assert program.ended() == 3


def test_a_question_on_a_terminal_of_the_command_is_a_screen_of_its_own(place: str, curl: tuple[str, ...]) -> None:
    with TerminalProgram("run", "-t", "--net", f"?{place}", "--", "sh", cols=200) as program:
        program.type(READY)
        program.until("ready\r\n")
        program.type(f"{' '.join(curl)}; echo after\n")
        program.until(b"\x1b[?1049h")
        program.until("Type a letter")
        _answer(program)
        program.until(b"\x1b[?1049l")
        program.until("hello\r\nafter\r\n")
        program.type("exit 3\n")
        assert program.ended() == 3
        assert program.is_as_before


def test_a_terminal_that_can_do_nothing_gets_plain_lines(place: str, curl: tuple[str, ...]) -> None:
    with TerminalProgram("run", "-t", "--net", f"?{place}", "--", *curl, cols=200, TERM="dumb") as program:
        program.until("Type a letter")
        _answer(program)
        program.until("hello")
        assert program.ended() == 0
        assert b"\x1b" not in program.seen


def test_a_program_that_has_the_screen_is_told_to_draw_again(place: str, curl: tuple[str, ...]) -> None:
    waits = "until [ $drawn ]; do sleep 0.05; done"
    script = f"trap 'drawn=1' WINCH; printf '\\033[?1049h'; {' '.join(curl)}; {waits}; echo again"
    with TerminalProgram("run", "-t", "--net", f"?{place}", "--", "bash", "-c", script, cols=200) as program:
        program.until(b"\x1b[?1049h")
        program.until("Type a letter")
        _answer(program)
        seen = program.until("again")
        assert b"hello" in seen
        # the terminal has one other screen, and it is the program's
        assert b"\x1b[?1049" not in seen
        assert program.ended() == 0


def test_without_a_terminal_it_is_said_how_to_answer(place: str, curl: tuple[str, ...], tmp_path: Path) -> None:
    with Sandbox.create(name="asked", net=f"?{place}") as box:
        said: list[str] = []
        command = threading.Thread(target=lambda: said.append(cloche("exec", "asked", "--", *curl).stderr))
        command.start()
        ask = next(iter(box.new_asks(since=0)))
        (listed,) = json.loads(cloche("policy", "asks", "asked", "--json").stdout)["asks"]
        assert listed["id"] == ask.id
        assert cloche("policy", "answer", "asked", ask.id, "always").returncode == 0
        command.join(30)
        assert f"cloche policy answer asked {ask.id}" in said[0]
        assert cloche("exec", "asked", "--", *curl).stdout == "hello\n"


def test_a_policy_of_a_template_and_of_a_session_file(place: str, curl: tuple[str, ...], tmp_path: Path) -> None:
    assert cloche("template", "set", "open", "--net", place).returncode == 0
    assert cloche("run", "--template", "open", "--", *curl).stdout == "hello\n"
    assert cloche("run", "--template", "open", "--net", "none", "--", *curl).returncode == 6
    session = tmp_path / "session.yaml"
    session.write_text(f"name: session\negress: {{rules: [{{domain: {HOST}, action: allow}}]}}\n")
    assert cloche("create", "-f", str(session)).returncode == 0
    assert cloche("policy", "show", "session").stdout.count(HOST) == 2
    assert cloche("rm", "-f", "session").returncode == 0
    assert cloche("template", "rm", "open").returncode == 0


def test_the_log_goes_on(place: str, curl: tuple[str, ...]) -> None:
    with Sandbox.create(name="logged", net=place) as box, TerminalProgram("policy", "log", "-f", "logged") as program:
        box.exec("curl", "-sS", "http://first.example/")
        program.until("first.example")
        box.exec(*curl)
        program.until("allowed")
        program.type(b"\x03")
        assert program.ended() == 0


def test_a_published_port(home: Path) -> None:
    with Sandbox.create(name="site") as box:
        box.spawn(
            "python3",
            "-m",
            "http.server",
            "8000",
        )
        url = cloche("publish", "site", "8000").stdout.strip()
        assert url.startswith("http://") and cloche("publish", "--json", "site", "8000").stdout.count(url) == 1
        assert url in cloche("publish", "ls").stdout
        assert cloche("publish", "rm", "site", "8000").returncode == 0
        assert url not in cloche("publish", "ls", "site").stdout


@pytest.mark.parametrize(("argv", "said"), [
    (("run", "--net", "pypj", "--", "true"), "pypi"),
    (("run", "--net", "a b", "--", "true"), "inspect"),
    (("run", "--net", "@/nowhere", "--", "true"), "/nowhere"),
    (("run", "--secret", "ABSENT_HERE@a.example", "--", "true"), "export ABSENT_HERE"),
    (("policy", "presets", "pypj"), "pypi"),
])  # fmt: skip
def test_what_is_wrong_is_told_with_what_helps(argv: tuple[str, ...], said: str) -> None:
    done = cloche(*argv)
    assert done.returncode == 125
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 2 or "/nowhere" in said or "inspect" in said


def test_presets_and_policies_complete(home: Path) -> None:
    def completed(*words: str) -> list[str]:
        line = " ".join(("cloche", *words))
        done = cloche(_CLOCHE_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words)))
        return [found.partition(",")[2] for found in done.stdout.splitlines()]

    assert "pypi" in completed("run", "--net", "py")
    assert completed("policy", "presets", "deb") == ["debian"]


def _answer(program: TerminalProgram) -> None:
    """Once. Keys from before the question could be read do not count, so they are typed until one does."""
    stop = threading.Event()

    def type_on() -> None:
        while not stop.wait(0.1):
            program.type("o")

    typist = threading.Thread(target=type_on)
    typist.start()
    try:
        program.until("> o")
    finally:
        stop.set()
        typist.join()
    program.type(b"\x7f" * 8 + b"o\r")
