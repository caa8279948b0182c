"""SDK and command line against a real node and real sandboxes, with whatever engine works here."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import AlreadyExistsError, InvalidError, Node, NotFoundError, Output, Sandbox, WrongStateError
from tests.integration.node_harness import SOURCE, end_node, node_pid, wait_for_exit

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("node") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOCHE_HOME", str(place))
        patch.setenv("PYTHONPATH", str(SOURCE))
        patch.delenv("CLOCHE_ENGINE", raising=False)
        if Node().doctor()["auto"] in (None, "fake"):
            end_node(place)
            pytest.skip("no engine is usable on this machine: see cloche doctor")
        yield place
        for info in Sandbox.list():
            Sandbox.from_id(info.id).remove()
        end_node(place)


@pytest.fixture
def box(home: Path) -> Iterator[Sandbox]:
    with Sandbox.create() as made:
        yield made


def cloche(*argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "cloche.cli", *argv], capture_output=True, timeout=60)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_run(home: Path, name: str) -> None:
    program = str(ROOT / f"examples/{name}.py")
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and not run.stderr, run.stderr


def test_the_example_session(home: Path) -> None:
    assert cloche("create", "-f", str(ROOT / "examples/session.yaml")).returncode == 0
    assert cloche("exec", "demo", "--", "sh", "-c", "echo $API_TOKEN").stdout == b"only-for-this-start\n"
    assert b"only-for-this-start" not in cloche("inspect", "demo").stdout
    assert cloche("rm", "-f", "demo").returncode == 0


def test_output_goes_on_when_the_node_is_killed(home: Path, box: Sandbox) -> None:
    process = box.spawn("sh", "-c", "for n in 1 2 3 4; do echo $n; read line; done", stdin=True)
    got = b""
    for event in process.output():
        if isinstance(event, Output):
            got += event.data
            pid = node_pid(home)
            os.kill(pid, signal.SIGKILL)
            wait_for_exit(pid)
            process.write_stdin("\n")
    assert got == b"1\n2\n3\n4\n"
    assert process.wait(30).exit_code == 0


def test_names_arguments_and_environment_of_any_kind(box: Sandbox) -> None:
    assert box.exec("printf", "%s", "\udcff").stdout_bytes == b"\xff"
    box.files.write("new\nline", "x")
    box.files.write("\udcff", "y")
    assert [info.name for info in box.files.list()] == ["new\nline", "\udcff"]
    assert box.files.read("\udcff") == "y"
    assert box.exec("sh", "-c", "echo ${#BIG}", env={"BIG": "x" * 100_000}).stdout == "100000\n"
    with pytest.raises(InvalidError):
        box.exec("echo", "a\0b")


def test_a_large_copy_in_and_out(box: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(500):
        (tree / f"{number}").write_bytes(b"%d" % number)
    (tree / "big").write_bytes(os.urandom(5 << 20))
    assert box.files.upload(tree, "t").files == 501
    assert box.exec("sh", "-c", "ls t | wc -l").stdout == "501\n"
    box.exec("ln", "-s", "/etc/shadow", "t/link", check=True)
    report = box.files.download("t", tmp_path / "back", skip_refused=True)
    assert [name for name, _ in report.refused] == ["t/link"]
    assert (tmp_path / "back/big").read_bytes() == (tree / "big").read_bytes()
    with pytest.raises(InvalidError):
        box.files.download("t", tmp_path / "again")


def test_changes_are_watched(box: Sandbox) -> None:
    events = box.files.watch(".")
    assert next(events).event == "ready"
    box.files.write("seen", "x")
    assert any("seen" in event.path for _, event in zip(range(5), events, strict=False))


def test_states_and_names(home: Path) -> None:
    with Sandbox.create(name="only") as box:
        with pytest.raises(AlreadyExistsError):
            Sandbox.create(name="only")
        assert Sandbox.from_id("only").id == box.id
        box.stop(grace_seconds=0)
        with pytest.raises(WrongStateError) as caught:
            box.exec("true")
        assert "cloche start" in (caught.value.remedy or "")
        box.start()
        assert box.exec("true").ok
        assert box.extend(600).expires_at is not None and box.extend(None).expires_at is None
        assert box.stats().time > 0
    with pytest.raises(NotFoundError):
        box.info()


def test_a_gigabyte_is_kept_within_bounds(box: Sandbox) -> None:
    done = box.exec("sh", "-c", "head -c 100000000 /dev/zero", max_output_bytes=1 << 20)
    assert (done.exit_code, len(done.stdout_bytes), done.truncated) == (0, 1 << 20, True)


def test_a_terminal_of_its_own(home: Path) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "cloche.cli", "run", "-it", "--", "sh", "-c", "tty; read x; echo got-$x"]
    run = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen = b""
    while b"/dev/pts" not in seen:
        seen += os.read(controller, 1000)
    os.write(controller, b"typed\r")
    while b"got-typed" not in seen:
        seen += os.read(controller, 1000)
    assert run.wait(30) == 0
    os.close(controller)


def test_several_commands_at_once(box: Sandbox) -> None:
    done: list[str] = []
    threads = [threading.Thread(target=lambda n=n: done.append(box.exec("echo", str(n)).stdout)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(f"{number}\n" for number in range(12))


def test_run_leaves_nothing(home: Path) -> None:
    before = {info.id for info in Sandbox.list()}
    done = cloche("run", "--json", "--timeout", "500ms", "--", "sleep", "60")
    told = json.loads(done.stdout)
    assert (done.returncode, told["limit_hit"]) == (124, "timeout")
    assert {info.id for info in Sandbox.list()} == before


@pytest.mark.parametrize("user", ["user", "root"])
def test_standard_streams_can_be_opened_by_name(box: Sandbox, user: str) -> None:
    if user == "root" and os.geteuid() != 0:
        pytest.skip("an ordinary user may have only one user inside")
    done = box.exec("sh", "-c", "echo e >/dev/stderr; echo o >/dev/stdout; cat /dev/stdin", stdin="i\n", user=user)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "o\ni\n", "e\n")


def test_daemons_that_left_their_session_are_asked_to_end(home: Path) -> None:
    with Sandbox.create() as sandbox:
        daemon = "trap 'echo asked > asked; exit' TERM; echo up > up; while :; do sleep 0.01; done"
        sandbox.exec("sh", "-c", f'setsid sh -c "{daemon}" >/dev/null 2>&1 & until [ -s up ]; do sleep 0.01; done')
        sandbox.stop()
        sandbox.start()
        assert sandbox.files.read("asked") == "asked\n"


def test_a_crash_never_runs_the_hosts_core_dump_program(box: Sandbox) -> None:
    program = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0)); print(r.getrlimit(r.RLIMIT_CORE))"
    # the kernel's own mark for "no dump at all"; a host whose hard limit is 0 keeps it
    assert box.exec("python3", "-c", program).stdout in ("(1, 1)\n", "(0, 0)\n")
    assert box.exec("sh", "-c", "kill -SEGV $$").exit_code == 139
